// What the page tells of its models.

/** A number of parameters. */
export const parameters = (count) => (count < 1e6 ? count.toLocaleString("en") : `${(count / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} M`);

/** Facts as the parts of a list; those that say nothing are left out. */
export function facts(all) {
  const said = all.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return said.flatMap(([key, value]) => {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    [dt.textContent, dd.textContent] = [key, String(value)];
    return [dt, dd];
  });
}

/** What is known of a loaded model, by its card. */
export function showCard(name, title, { card, info, weights, memory }) {
  const list = document.createElement("dl");
  list.className = "facts";
  const error = card.validation?.std_err;
  const measured = card.validation && `${name === "mdlm" ? "at most " : ""}${card.validation.perplexity}${error ? ` ± ${error}` : ""}`;
  list.append(
    ...facts([
      ["parameters", info.parameters.toLocaleString("en")],
      ["kept in", weights],
      ["memory of the program", memory && `${(memory / 1e6).toFixed(0)} MB`],
      ["data", card.data],
      ["licence", card.licence],
      ["steps", card.steps?.toLocaleString?.("en")],
      ["held-out perplexity", measured],
      ["token frequencies alone", card.validation?.unigram_perplexity],
      ["made with", card.command],
    ]),
  );
  const heading = document.createElement("h3");
  heading.textContent = title;
  document.querySelector(`[data-card="${name}"]`)?.remove();
  const box = document.createElement("div");
  box.dataset.card = name;
  box.append(heading, list);
  if (card.samples?.length) {
    box.append(shownSamples(card.samples));
  }
  document.getElementById("cards").append(box);
  const size = `${parameters(info.parameters)} parameters`;
  document.getElementById(`${name}-size`).textContent = weights ? `${title}, ${size}, ${weights}` : size;
}

/** Samples of the card, as they came. */
function shownSamples(samples) {
  const [details, summary, list] = ["details", "summary", "ol"].map((tag) => document.createElement(tag));
  summary.textContent = `${samples.length} samples, not chosen`;
  list.className = "samples";
  list.append(
    ...samples.map((text) => Object.assign(document.createElement("li"), { textContent: text.replaceAll("<|endoftext|>", " ∎\n").trim() })),
  );
  details.append(summary, list);
  return details;
}
