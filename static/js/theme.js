// Applies the reader's theme before anything is painted, so it is loaded without `defer` in
// <head>. Shares the storage key "theme" (auto, light, dark) with Django's admin: one choice
// holds everywhere. The buttons that change it are `[data-theme-choice]`.
(() => {
  "use strict";

  const KEY = "theme";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  function storedChoice() {
    try {
      const value = localStorage.getItem(KEY);
      return value === "light" || value === "dark" ? value : "auto";
    } catch {
      return "auto"; // Storage may be forbidden; the page still works, it only forgets.
    }
  }

  let choice = storedChoice();

  function markButtons() {
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice));
    }
  }

  function apply() {
    const theme = choice === "auto" ? (dark.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.bsTheme = theme;
    markButtons();
    document.dispatchEvent(new CustomEvent("ds01:theme", { detail: { theme } }));
  }

  function choose(value) {
    choice = value;
    try {
      localStorage.setItem(KEY, value);
    } catch {
      // As above: forgetting is all that happens.
    }
    apply();
  }

  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", markButtons);
  window.addEventListener("storage", (event) => {
    if (event.key === KEY) {
      choice = storedChoice();
      apply();
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (button) {
      choose(button.dataset.themeChoice);
    }
  });
})();
