// xterm.js adds <style> elements and style attributes and takes no nonce, so under this site's
// content security policy its colours would be dropped. Loaded before xterm, on the terminal page
// alone: every <style> element made by a script gets the page's nonce, and style attributes are
// set through the CSSOM, which the policy allows.
(() => {
  "use strict";

  const nonce = document.querySelector('meta[name="csp-nonce"]')?.content;
  if (!nonce) {
    return;
  }
  const { createElement } = Document.prototype;
  Document.prototype.createElement = function createElementWithNonce(name, options) {
    const element = createElement.call(this, name, options);
    if (String(name).toLowerCase() === "style") {
      element.nonce = nonce;
    }
    return element;
  };

  const { setAttribute } = Element.prototype;
  Element.prototype.setAttribute = function setAttributeThroughCssom(name, value) {
    if (String(name).toLowerCase() === "style" && this.style) {
      this.style.cssText = value;
    } else {
      setAttribute.call(this, name, value);
    }
  };
})();
