// Messages above the page, or where they belong.

const $ = (id) => document.getElementById(id);

/** A box with a text, what helps, and buttons; it replaces the one with its id. */
export function notice(text, { id = "", hint = "", actions = [], place = $("notices") } = {}) {
  const box = document.createElement("div");
  box.className = "notice";
  box.dataset.notice = id;
  const line = document.createElement("p");
  line.textContent = text;
  box.append(line);
  if (hint) {
    const next = document.createElement("p");
    next.className = "hint";
    next.textContent = `What helps: ${hint}.`;
    box.append(next);
  }
  if (actions.length > 0) {
    const row = document.createElement("div");
    row.className = "buttons";
    for (const [label, act] of actions) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = label;
      button.addEventListener("click", () => {
        box.remove();
        act();
      });
      row.append(button);
    }
    box.append(row);
  }
  clearNotice(id, place);
  place.append(box);
}

/** Takes the box with an id away. */
export const clearNotice = (id, place = $("notices")) => place.querySelectorAll(`[data-notice="${id}"]`).forEach((old) => old.remove());
