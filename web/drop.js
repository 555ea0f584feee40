// Dropping something on a part of the page.

/** `take(data)` gets what was dropped on `panel`; it has to read `data` before it waits for anything. */
export function onDrop(panel, take) {
  panel.addEventListener("dragover", (event) => {
    event.preventDefault();
    panel.classList.add("dropping");
  });
  panel.addEventListener("dragleave", () => panel.classList.remove("dropping"));
  panel.addEventListener("drop", (event) => {
    event.preventDefault();
    panel.classList.remove("dropping");
    take(event.dataTransfer);
  });
}
