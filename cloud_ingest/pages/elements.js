// Drawing the page: functions make fresh nodes from the data, and patch() changes only what differs in the shown ones.
// Thus focus, an opened list and a screen reader's place survive the redrawing every few seconds.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

/** An HTML element; false and null children are left out, texts become text nodes (never markup). */
export const html = (tag, attributes = {}, ...children) => build(document.createElement(tag), attributes, children);

/** The same for SVG. */
export const svg = (tag, attributes = {}, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

/** Make the children of `container` equal to `nodes`, keeping every node that need not change. */
export function patch(container, nodes) {
  const wanted = [nodes].flat(Infinity).filter((node) => node != null && node !== false);
  wanted.forEach((node, index) => {
    const shown = container.childNodes[index];
    if (!shown) container.append(node);
    else if (isSameKind(shown, node)) update(shown, node);
    else shown.replaceWith(node);
  });
  while (container.childNodes.length > wanted.length) container.lastChild.remove();
}

function isSameKind(shown, node) {
  return shown.nodeName === node.nodeName && shown.dataset?.key === node.dataset?.key;
}

function update(shown, node) {
  if (shown.nodeType === Node.TEXT_NODE) {
    if (shown.data !== node.data) shown.data = node.data;
    return;
  }
  for (const { name, value } of node.attributes) {
    if (shown.getAttribute(name) !== value) shown.setAttribute(name, value);
  }
  for (const { name } of [...shown.attributes]) {
    // A <details> the reader opened stays open.
    if (!node.hasAttribute(name) && !(name === "open" && shown.nodeName === "DETAILS")) shown.removeAttribute(name);
  }
  patch(shown, [...node.childNodes]);
}
