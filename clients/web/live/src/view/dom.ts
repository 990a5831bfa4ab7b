/** The element of the page with this id; its absence is a mistake of ours. */
export function byId<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`#${id} is not in the page`);
  return found;
}

/** A new element. Text goes in as text, never as markup: what customers write stays inert. */
export function make(tag: string, className: string, text = ""): HTMLElement {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

/** Sets text only when it differs: screen readers announce, and selections fall, at every change. */
export function say(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Shows an element with this text, or hides it when there is none. */
export function sayOrHide(element: HTMLElement, text: string): void {
  say(element, text);
  element.hidden = text === "";
}

/** Makes the children of `parent` those of `items` in order, and reuses by key what is there: focus and scrolling stay. */
export function keyed<T>(
  parent: HTMLElement,
  items: readonly T[],
  key: (item: T) => string,
  create: (item: T) => HTMLElement,
  update: (element: HTMLElement, item: T) => void,
): void {
  const before = new Map([...parent.children].map((child) => [child.getAttribute("data-key"), child as HTMLElement]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const element = before.get(key(item)) ?? create(item);
    before.delete(key(item));
    element.dataset["key"] = key(item);
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  }
  for (const left of before.values()) left.remove();
}

const SVG = "http://www.w3.org/2000/svg";

/** A drawing of strokes on a 20 × 12 field. */
export function drawing(paths: readonly string[]): SVGElement {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 20 12");
  picture.setAttribute("aria-hidden", "true");
  for (const path of paths) {
    const stroke = document.createElementNS(SVG, "path");
    stroke.setAttribute("d", path);
    picture.append(stroke);
  }
  return picture;
}
