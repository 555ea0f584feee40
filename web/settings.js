// Settings of a run: the form, and the address that shares them.

const $ = (id) => document.getElementById(id);
const NUMBERS = ["steps", "temperature", "top_p", "length", "seed"];
const DEVICES = ["auto", "webgpu", "cpu"];
const MAX_PROMPT = 4000;

/** Fills the form from the address; what makes no sense there is left at its default. */
export function readAddress() {
  const query = new URLSearchParams(location.search);
  for (const key of NUMBERS) {
    const field = $(key);
    const value = Number(query.get(key));
    if (query.has(key) && Number.isFinite(value) && value >= Number(field.min) && value <= Number(field.max)) {
      field.value = String(value);
    }
  }
  const samplers = [...$("sampler").options].map(({ value }) => value);
  if (samplers.includes(query.get("sampler"))) {
    $("sampler").value = query.get("sampler");
  }
  if (DEVICES.includes(query.get("device"))) {
    $("device-choice").value = query.get("device");
  }
  if (query.has("prompt")) {
    $("prompt").value = query.get("prompt").slice(0, MAX_PROMPT);
  }
  $("compare").checked = query.get("compare") !== "0";
  return { auto: query.get("run") !== "0" };
}

/** What the form says. */
export function settings() {
  const number = (id) => ($(id).value === "" ? NaN : Number($(id).value));
  return {
    prompt: $("prompt").value,
    sampler: $("sampler").value,
    device: $("device-choice").value,
    compare: $("compare").checked,
    ...Object.fromEntries(NUMBERS.map((key) => [key, number(key)])),
  };
}

/** Options of the library for the diffusion model, and for the left-to-right one; an empty field leaves the
 *  library its default. */
export function options({ sampler, steps, temperature, top_p, seed }) {
  const drawn = { temperature, seed, ...(temperature === 0 ? {} : { top_p }) };
  const given = (all) => Object.fromEntries(Object.entries(all).filter(([, value]) => !Number.isNaN(value)));
  return { mdlm: given({ sampler, steps, ...drawn }), ar: given({ sampler: "left-to-right", ...drawn }) };
}

/** Puts the settings into the address, without an entry in the history. */
export function writeAddress() {
  const { compare, ...rest } = settings();
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(rest)) {
    if (value !== "" && !(key === "device" && value === "auto") && !Number.isNaN(value)) {
      query.set(key, value);
    }
  }
  if (!compare) {
    query.set("compare", "0");
  }
  history.replaceState(null, "", `?${query}`);
  return location.href;
}
