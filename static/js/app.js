// What every page has: htmx manners, pressed feedback, relative times, copy buttons, dialogs,
// notices. Not in charge of live updates (live.js) or of any one page.
//
// Offers `window.ds01`: text(key, ...values), notify(level, message), durationText(seconds).
(() => {
  "use strict";

  // ---- Translated strings -------------------------------------------------------------------

  // Strings come from data attributes of #ds01-text (components/js_text.html); {0} is filled in.
  function text(key, ...values) {
    const store = document.getElementById("ds01-text");
    const pattern = store?.dataset[key] ?? key;
    return pattern.replace(/\{(\d)\}/g, (_, index) => values[Number(index)] ?? "");
  }

  // ---- Notices ------------------------------------------------------------------------------

  const ICONS = {
    info: "bi-info-circle",
    success: "bi-check-circle",
    warning: "bi-exclamation-triangle",
    error: "bi-x-octagon",
  };

  function element(tag, className, content = "") {
    const node = document.createElement(tag);
    node.className = className;
    node.textContent = content;
    return node;
  }

  // Show a passing notice; errors stay until closed, the rest go after 8 seconds.
  function notify(level, message) {
    const region = document.getElementById("toasts");
    if (!region || !message) {
      return;
    }
    const kind = level in ICONS ? level : "info";
    const notice = element("div", `notice notice-${kind}`);
    const icon = element("i", `bi ${ICONS[kind]}`);
    icon.setAttribute("aria-hidden", "true");
    const close = element("button", "btn-close");
    close.type = "button";
    close.setAttribute("aria-label", text("close"));
    close.dataset.dismiss = "";
    notice.append(icon, element("div", "notice-body", message), close);
    region.append(notice);
    while (region.children.length > 4) {
      region.firstElementChild.remove();
    }
    if (kind !== "error") {
      setTimeout(() => notice.remove(), 8000);
    }
  }

  // ---- Times --------------------------------------------------------------------------------

  // Two units at most, from days down to seconds: "3 h 12 min".
  function durationText(seconds) {
    const total = Math.max(0, Math.round(seconds));
    if (total < 60) {
      return text("seconds", total);
    }
    const minutes = Math.floor(total / 60);
    const parts = [
      ["days", Math.floor(minutes / 1440)],
      ["hours", Math.floor(minutes / 60) % 24],
      ["minutes", minutes % 60],
    ];
    const first = parts.findIndex(([, count]) => count > 0);
    return parts
      .slice(first, first + 2)
      .filter(([, count]) => count > 0)
      .map(([unit, count]) => text(unit, count))
      .join(" ");
  }

  const language = document.documentElement.lang || undefined;
  const clock = new Intl.DateTimeFormat(language, {
    weekday: "short",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });
  const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "medium" });

  const TIME_MODES = {
    since: (seconds) => durationText(seconds),
    ago: (seconds) => text("ago", durationText(seconds)),
    until: (seconds) => (seconds >= 0 ? text("now") : durationText(-seconds)),
    clock: (_, moment) => clock.format(moment),
  };

  function tickTimes(root = document) {
    const now = Date.now();
    for (const node of root.querySelectorAll("time[data-time]")) {
      const moment = new Date(node.dateTime);
      const mode = TIME_MODES[node.dataset.time];
      if (!mode || Number.isNaN(moment.getTime())) {
        continue;
      }
      const shown = mode((now - moment.getTime()) / 1000, moment);
      if (node.textContent !== shown) {
        node.textContent = shown;
      }
      if (!node.dataset.exact) {
        node.dataset.exact = "yes";
        node.title = exact.format(moment);
      }
    }
  }

  // ---- Copy ---------------------------------------------------------------------------------

  async function copyText(value) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(value);
      return;
    }
    // Portals on plain http inside a campus network have no clipboard API.
    const area = document.createElement("textarea");
    area.value = value;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  async function copyFrom(button) {
    const source = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
    await copyText(button.dataset.copy ?? source?.textContent.trim() ?? "");
    const label = button.querySelector("[data-copy-label]") ?? button;
    const before = button.dataset.copyBefore ?? label.textContent;
    button.dataset.copyBefore = before;
    label.textContent = text("copied");
    setTimeout(() => {
      label.textContent = before;
    }, 2000);
  }

  // ---- Clicks -------------------------------------------------------------------------------

  const CLICKS = {
    "[data-dialog-open]": (node) => document.getElementById(node.dataset.dialogOpen)?.showModal(),
    "[data-dialog-close]": (node) => node.closest("dialog")?.close(),
    "[data-copy], [data-copy-from]": (node) => copyFrom(node),
    "[data-dismiss]": (node) => node.closest(".notice")?.remove(),
    "[data-reload]": () => window.location.reload(),
  };

  document.addEventListener("click", (event) => {
    if (!(event.target instanceof Element)) {
      return;
    }
    const dialog = event.target;
    if (dialog instanceof HTMLDialogElement && dialog.matches(".confirm")) {
      dialog.close(); // A click on the backdrop; clicks inside hit an inner element.
      return;
    }
    for (const [selector, act] of Object.entries(CLICKS)) {
      const node = event.target.closest(selector);
      if (node) {
        act(node);
      }
    }
  });

  document.addEventListener("pointerdown", (event) => {
    const button = event.target.closest?.(".btn");
    if (button) {
      button.classList.add("is-pressed");
      setTimeout(() => button.classList.remove("is-pressed"), 160);
    }
  });

  // ---- Forms --------------------------------------------------------------------------------

  const SENT_TIMEOUT_MS = 15000; // A download never leaves the page; nor may a button stay dead.

  function markSent(form, submitter) {
    form.dataset.sent = "yes";
    submitter?.setAttribute("aria-busy", "true");
  }

  function clearSent(root) {
    const forms = root instanceof HTMLFormElement ? [root] : root.querySelectorAll("form");
    for (const form of forms) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("[aria-busy='true']:is(button, input)")) {
        button.removeAttribute("aria-busy");
      }
    }
  }

  // A second click on the same button sends nothing; the server is idempotent as well.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.getAttribute("method")?.toLowerCase() !== "post" || event.defaultPrevented) {
      return;
    }
    if (form.dataset.sent) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    markSent(form, event.submitter);
    setTimeout(() => clearSent(form), SENT_TIMEOUT_MS);
  }, true);

  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      clearSent(document);
    }
  });

  // ---- htmx ---------------------------------------------------------------------------------

  const csrfToken = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

  document.addEventListener("htmx:configRequest", (event) => {
    event.detail.headers["X-CSRFToken"] = csrfToken();
  });
  document.addEventListener("htmx:afterRequest", (event) => {
    const form = event.detail.elt.closest?.("form");
    if (form) {
      clearSent(form);
    }
  });
  document.addEventListener("htmx:afterSettle", (event) => tickTimes(event.detail.elt));
  document.addEventListener("htmx:responseError", (event) => {
    // A live refresh that fails says nothing: the connection bar speaks for it.
    if (event.detail.requestConfig.triggeringEvent?.type !== "refresh") {
      notify("error", text("requestFailed", event.detail.xhr.status));
    }
  });
  document.addEventListener("htmx:sendError", (event) => {
    if (event.detail.requestConfig.triggeringEvent?.type !== "refresh") {
      notify("error", text("unreachable"));
    }
  });
  // Views may answer with `HX-Trigger: {"ds01:notice": {"level": "success", "text": "…"}}`.
  document.addEventListener("ds01:notice", (event) => {
    notify(event.detail.level, event.detail.text);
  });

  // ---- Keyboard -----------------------------------------------------------------------------

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && event.key === "k") {
      const search = document.querySelector("[data-search]");
      if (search && !event.target.closest?.(".xterm")) {
        event.preventDefault();
        search.focus();
        search.select?.();
      }
    }
  });

  window.ds01 = { text, notify, durationText, csrfToken, tickTimes };
  tickTimes();
  setInterval(() => tickTimes(), 1000);
})();
