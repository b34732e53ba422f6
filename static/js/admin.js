// Names for two of the admin's own widgets that screen readers would announce without one: the
// search for a related row (select2) and the hint beside a filter of a two-list choice.
(() => {
  "use strict";

  function labelOf(select) {
    return select.labels?.[0]?.textContent.replace(/:\s*$/, "").trim() ?? "";
  }

  function nameSearches() {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const name = labelOf(select);
      const box = select.nextElementSibling;
      if (!name || !box) {
        continue;
      }
      for (const part of box.querySelectorAll("[role=combobox], [role=textbox]")) {
        if (part.getAttribute("aria-label") !== name) {
          part.setAttribute("aria-label", name);
        }
      }
    }
  }

  function nameHints() {
    for (const hint of document.querySelectorAll(".help-tooltip[aria-label]:not([role])")) {
      hint.setAttribute("role", "img");
    }
  }

  function nameAll() {
    nameSearches();
    nameHints();
  }

  // Both are built by scripts, some of them after the page was loaded.
  new MutationObserver(nameAll).observe(document.documentElement, {
    childList: true,
    subtree: true,
  });
  nameAll();
})();
