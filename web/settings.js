// Settings of a run: the form, and the address that shares them.

const $ = (id) => document.getElementById(id);
const NUMBERS = ["steps", "temperature", "top_p", "block", "length", "seed"];
const MODULES = ["plain", "relaxed", "threads"];
const DEVICES = ["auto", "webgpu", "cpu"];
const MAX_PROMPT = 4000;

const WHOLE = ["steps", "block", "length", "seed"];
/** What is offered first. */
const SAMPLER = "confidence";
/** Of its order: the surest place first, always, repeats itself; docs/samplers.md has the figures. */
const ORDER_NOISE = 4;
/** The library's samplers, once it is loaded, and the one that the address asks for. */
let known = [];
let asked = SAMPLER;
/** How a published model is sampled unless told otherwise; of the page's own, null. */
let suited = null;
/** What the form said of the page's own model. */
let before = null;
/** What of the form belongs to a model. */
const OF_MODEL = ["sampler", "steps", "temperature", "top_p", "block"];

/** Fills the form from the address; what makes no sense there is left at its default. */
export function readAddress() {
  const query = new URLSearchParams(location.search);
  const text = new URLSearchParams(location.hash.slice(1)).get("prompt") ?? query.get("prompt");
  for (const key of NUMBERS) {
    const field = $(key);
    const value = query.get(key) ? Number(query.get(key)) : NaN;
    const fits = value >= Number(field.min) && value <= Number(field.max);
    if (fits && (Number.isInteger(value) || !WHOLE.includes(key))) {
      field.value = String(value);
    }
  }
  asked = query.get("sampler") ?? SAMPLER;
  if (DEVICES.includes(query.get("device"))) {
    $("device-choice").value = query.get("device");
  }
  $("prompt").value = (text ?? "").slice(0, MAX_PROMPT);
  $("compare").checked = query.get("compare") !== "0";
  const module = MODULES.find((name) => name === query.get("module"));
  return { auto: query.get("run") !== "0", module };
}

/** Offers the library's samplers; the chosen one is the one before, that of the address, or the usual one. */
export function offerSamplers(samplers) {
  known = samplers;
  const names = samplers.map(({ name }) => name);
  const chosen = [$("sampler").value, asked, SAMPLER].find((name) => names.includes(name));
  $("sampler").replaceChildren(...samplers.map(({ name, summary }) => new Option(`${name}: ${summary}`, name)));
  $("sampler").value = chosen;
  showSteps();
}

/** Fills the form with how a published model is sampled; null: with what it said of the page's own. */
export function suit(sampling) {
  if (!suited && sampling) {
    before = Object.fromEntries(OF_MODEL.map((key) => [key, $(key).value]));
  }
  const values = sampling ?? before;
  suited = sampling;
  before = sampling ? before : null;
  OF_MODEL.forEach((key) => ($(key).value = String(values?.[key] ?? $(key).value)));
  showSteps();
}

const hasSteps = (sampler) => known.find(({ name }) => name === sampler)?.has_steps ?? true;

/** Offers a number of steps to samplers that have one. */
export function showSteps() {
  $("steps").disabled = !hasSteps($("sampler").value);
}

/** What the form says. */
export function settings() {
  const number = (id) => ($(id).value === "" ? NaN : Number($(id).value));
  return {
    prompt: $("prompt").value,
    sampler: $("sampler").value || asked,
    device: $("device-choice").value,
    compare: $("compare").checked,
    ...Object.fromEntries(NUMBERS.map((key) => [key, number(key)])),
  };
}

/** Options of the library for the diffusion model, and for the left-to-right one; an empty field leaves the
 *  library its default. */
export function options({ sampler, steps, temperature, top_p, block, seed }) {
  const drawn = { temperature, seed, ...(temperature === 0 ? {} : { top_p }) };
  const given = (all) => Object.fromEntries(Object.entries(all).filter(([, value]) => !Number.isNaN(value)));
  const counted = hasSteps(sampler) ? { steps } : {};
  const own = sampler === "confidence" ? { order_noise: ORDER_NOISE } : {};
  const theirs = () => {
    const read = known.find(({ name }) => name === sampler)?.options ?? [];
    return suited.sampler === sampler ? Object.fromEntries(read.map(({ key }) => [key, suited[key]])) : {};
  };
  const ordered = suited ? theirs() : own;
  const blocks = block > 0 ? { block } : {};
  return { mdlm: given({ sampler, ...counted, ...blocks, ...ordered, ...drawn }), ar: given({ sampler: "left-to-right", ...drawn }) };
}

/** Puts the settings into the address, without an entry in the history; the text goes where no request takes it. */
export function writeAddress() {
  const { compare, prompt, ...rest } = settings();
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(rest)) {
    const usual = { device: "auto", block: 0 }[key];
    if (value !== "" && value !== usual && !Number.isNaN(value)) {
      query.set(key, value);
    }
  }
  if (!compare) {
    query.set("compare", "0");
  }
  const text = prompt ? `#${new URLSearchParams({ prompt })}` : "";
  history.replaceState(null, "", `?${query}${text}`);
  return location.href;
}
