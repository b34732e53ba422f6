// Keeps a page up to date over one EventSource (URL in <body data-stream-url>).
//
// Server events: `update` with JSON {subject, state, phase, percent, message} where subject is
// "<kind>:<id>"; `resync` (look at everything again); `ping` (optional, about every 15 s, lets a
// silently dead connection be noticed). A native reconnect sends Last-Event-ID by itself.
//
// On the page: data-live="container:<uuid>" marks an element that htmx can fetch again
// (hx-get, hx-trigger="refresh"); inside it [data-live-percent], [data-live-message] change in
// place. data-live-region="container" is fetched again when something of that kind appears
// that no element shows, and on resync. Every update is also a DOM event `ds01:update`.
// Not in charge of what an element looks like: the server renders it.
(() => {
  "use strict";

  const url = document.body.dataset.streamUrl;
  if (!url || !window.EventSource) {
    return;
  }

  const COALESCE_MS = 150;
  const SAY_LOST_AFTER_MS = 3000;
  const SILENCE_MS = 45000;
  const REST_WHEN_HIDDEN_MS = 30000;

  let source = null;
  let lostTimer = 0;
  let retryTimer = 0;
  let restTimer = 0;
  let retryDelay = 1000;
  let lastHeard = Date.now();
  let pingSeen = false;

  // ---- Refreshing elements ------------------------------------------------------------------

  const waiting = new Set();
  let flushTimer = 0;

  // Fetching an element again must not close a dialog or eat what someone is typing in it.
  function isInUse(node) {
    const active = document.activeElement;
    const typing = active?.matches("input, textarea, select") && node.contains(active);
    return typing || node.querySelector("dialog[open], .dropdown-menu.show") !== null;
  }

  function flush() {
    flushTimer = 0;
    let fetching = false;
    for (const node of [...waiting]) {
      waiting.delete(node);
      // An answer under way may be older than the update, and replaces the element: the one in
      // its place is asked again, or the last state would be lost.
      const current = node.isConnected || !node.id ? node : document.getElementById(node.id);
      if (!current?.isConnected) {
        continue;
      }
      const underWay = current.classList.contains("htmx-request");
      fetching ||= underWay;
      if (underWay || isInUse(current)) {
        waiting.add(current);
      } else {
        window.htmx?.trigger(current, "refresh");
      }
    }
    if (waiting.size) {
      flushTimer = setTimeout(flush, fetching ? COALESCE_MS : 1000);
    }
  }

  function refresh(node) {
    waiting.add(node);
    flushTimer ||= setTimeout(flush, COALESCE_MS);
  }

  // A dialog may have been opened while the answer was under way: it waits until that is closed.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, requestConfig } = event.detail;
    const live = target?.matches?.("[data-live], [data-live-region]");
    if (live && requestConfig?.verb === "get" && isInUse(target)) {
      event.detail.shouldSwap = false;
      refresh(target);
    }
  });

  function refreshAll() {
    for (const node of document.querySelectorAll("[data-live], [data-live-region]")) {
      const outer = node.parentElement?.closest("[data-live], [data-live-region]");
      if (!outer) {
        refresh(node); // An inner one comes along with its outermost region.
      }
    }
  }

  // ---- Applying one update ------------------------------------------------------------------

  const lastSeen = new Map();

  function updateInPlace(node, update) {
    if (typeof update.percent === "number") {
      for (const part of node.querySelectorAll("[data-live-percent]")) {
        if (part instanceof HTMLProgressElement) {
          part.value = update.percent;
        } else {
          part.textContent = `${Math.round(update.percent)} %`;
        }
      }
    }
    if (update.message) {
      for (const part of node.querySelectorAll("[data-live-message]")) {
        part.textContent = update.message;
      }
    }
  }

  // True when only the percentage moved on: changed in place, nothing needs fetching.
  function isProgressOnly(update) {
    const key = `${update.state}/${update.phase}`;
    const same = lastSeen.get(update.subject) === key;
    lastSeen.set(update.subject, key);
    return same && typeof update.percent === "number";
  }

  function apply(update) {
    const nodes = document.querySelectorAll(`[data-live~="${CSS.escape(update.subject)}"]`);
    const progressOnly = isProgressOnly(update);
    for (const node of nodes) {
      updateInPlace(node, update);
      if (!progressOnly) {
        refresh(node);
      }
    }
    if (!nodes.length && !progressOnly) {
      const kind = update.subject.split(":", 1)[0];
      document.querySelectorAll(`[data-live-region~="${CSS.escape(kind)}"]`).forEach(refresh);
    }
    document.dispatchEvent(new CustomEvent("ds01:update", { detail: update }));
  }

  // ---- The connection -----------------------------------------------------------------------

  function showLost(lost) {
    const bar = document.getElementById("connection-bar");
    if (bar && bar.hidden === lost) {
      bar.hidden = !lost;
      bar.querySelector("[data-connection-text]").textContent = lost
        ? window.ds01.text("lost")
        : "";
    }
    document.body.toggleAttribute("data-disconnected", lost);
  }

  function onOpen() {
    clearTimeout(lostTimer);
    lostTimer = 0;
    retryDelay = 1000;
    lastHeard = Date.now();
    showLost(false);
  }

  function onError() {
    lostTimer ||= setTimeout(() => showLost(true), SAY_LOST_AFTER_MS);
    if (source?.readyState === EventSource.CLOSED) {
      // The browser gives up after an HTTP error (a proxy's 502 while the portal restarts).
      close();
      retryTimer = setTimeout(() => open({ catchUp: true }), retryDelay);
      retryDelay = Math.min(retryDelay * 2, 15000);
    }
  }

  function close() {
    clearTimeout(retryTimer);
    source?.close();
    source = null;
  }

  // A connection made by hand cannot send Last-Event-ID, so it looks at everything again.
  function open({ catchUp = false } = {}) {
    close();
    source = new EventSource(url);
    source.addEventListener("open", () => {
      onOpen();
      if (catchUp) {
        refreshAll();
      }
    });
    source.addEventListener("error", onError);
    source.addEventListener("ping", () => {
      pingSeen = true;
      lastHeard = Date.now();
    });
    source.addEventListener("resync", () => {
      lastHeard = Date.now();
      lastSeen.clear();
      refreshAll();
    });
    source.addEventListener("update", (event) => {
      lastHeard = Date.now();
      apply(JSON.parse(event.data));
    });
  }

  setInterval(() => {
    if (source && pingSeen && Date.now() - lastHeard > SILENCE_MS) {
      lastHeard = Date.now();
      open({ catchUp: true });
    }
  }, 5000);

  // Browsers allow six connections to a host over HTTP/1.1: tabs out of sight give theirs back.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(restTimer);
    if (document.hidden) {
      restTimer = setTimeout(close, REST_WHEN_HIDDEN_MS);
    } else if (!source) {
      open({ catchUp: true });
    }
  });
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      open({ catchUp: true });
    }
  });

  open();
})();
