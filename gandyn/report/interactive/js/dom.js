// Elements and canvases. Text from the data only ever becomes text: textContent, never markup.

export function element(tag, fields = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (name === "class") made.className = value;
    else if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && !name.startsWith("aria")) made[name] = value;
    else made.setAttribute(name, value);
  }
  for (const child of children) if (child !== null && child !== undefined) made.append(child);
  return made;
}

// A select with the options given: [value, text] pairs or texts.
export function select(label, options, value, change) {
  const box = element("select", { "aria-label": label, onchange: () => change(box.value) });
  for (const option of options) {
    const [key, text] = Array.isArray(option) ? option : [option, option];
    box.append(element("option", { value: key, text }));
  }
  box.value = value;
  return box;
}

export function button(text, title, click, fields = {}) {
  return element("button", { type: "button", text, title, onclick: click, ...fields });
}

// A canvas that is as sharp as the screen: {node, context, width, height} after fit() in CSS pixels.
export class Canvas {
  constructor(label, height = null) {
    this.node = element("canvas", { role: "img", "aria-label": label });
    this.context = this.node.getContext("2d");
    this.wanted = height;
    this.width = this.height = 0;
    if (height !== null) this.node.style.height = `${height}px`;
  }

  // Takes the size that the page gives it; returns whether there is any.
  fit(square = false) {
    const width = Math.floor(this.node.clientWidth), height = square ? width : Math.floor(this.node.clientHeight);
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    if (square && this.node.style.height !== `${width}px`) this.node.style.height = `${width}px`;
    if (this.node.width !== Math.round(width * ratio) || this.node.height !== Math.round(height * ratio)) {
      this.node.width = Math.round(width * ratio);
      this.node.height = Math.round(height * ratio);
    }
    this.width = width;
    this.height = height;
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.context.clearRect(0, 0, width, height);
    return width > 0 && height > 0;
  }
}

// A colour that the style sheet names.
const kept = new Map();
export function colour(name) {
  if (!kept.has(name)) kept.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return kept.get(name);
}

export function forgetColours() {
  kept.clear();
}

// Where a pointer is on a node, in CSS pixels.
export function place(event, node) {
  const box = node.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

// Calls move(x, y, event) while a pointer that went down on the node is dragged, and at its start; end() after.
export function onDrag(node, move, end = () => {}) {
  let down = false;
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    down = true;
    if (event.isTrusted) node.setPointerCapture(event.pointerId);
    move(...place(event, node), event, true);
  });
  node.addEventListener("pointermove", (event) => {
    if (down) move(...place(event, node), event, false);
  });
  for (const name of ["pointerup", "pointercancel"])
    node.addEventListener(name, (event) => {
      if (down) end(...place(event, node), event);
      down = false;
    });
}
