// Messages above the page.

const $ = (id) => document.getElementById(id);

/** A box with a text, what helps, and buttons; it replaces the one with its id. */
export function notice(text, { id = "", hint = "", actions = [] } = {}) {
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
  clearNotice(id);
  $("notices").append(box);
}

/** Takes the box with an id away. */
export const clearNotice = (id) => $("notices").querySelectorAll(`[data-notice="${id}"]`).forEach((old) => old.remove());
