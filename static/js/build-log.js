// The page of a build: its log and its steps, live over an EventSource of its own.
//
// Events: `output` with {id, step, at, html} (html is made by the server, nothing a log says gets
// through as markup), `state` with {state, label, steps, …}, `end`. The browser resumes by itself
// after the id it had last; the page begins after data-last-id, which it was rendered with.
//
// On the page: pre[data-build-log data-stream-url data-last-id data-live-log], #build-head (fetched
// again when the state changes), and the buttons [data-log-follow], [data-log-end],
// [data-log-wrap], input[data-log-search], [data-log-found], a[data-log-step].
(() => {
  "use strict";

  const log = document.querySelector("[data-build-log]");
  if (!log) {
    return;
  }

  const SAY_LOST_AFTER_MS = 3000;
  const RETRY_MS = 2000;
  const NEAR_THE_END = 40; // pixels

  const said = document.querySelector("[data-build-said]");
  const followButton = document.querySelector("[data-log-follow]");
  const search = document.querySelector("[data-log-search]");
  const found = document.querySelector("[data-log-found]");
  const parts = new Set();
  let lastId = Number(log.dataset.lastId);
  let lastStep = Number([...log.querySelectorAll("[data-part]")].at(-1)?.dataset.part ?? -1);
  let following = log.dataset.liveLog === "yes";

  // ---- Scrolling ----------------------------------------------------------------------------

  const toTheEnd = () => {
    log.scrollTop = log.scrollHeight;
  };

  function setFollowing(on) {
    following = on;
    followButton.setAttribute("aria-pressed", String(on));
    if (on) {
      toTheEnd();
    }
  }

  // Scrolling up by hand stops following, coming back to the end goes on with it.
  log.addEventListener("scroll", () => {
    const near = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_THE_END;
    if (near !== following && !followButton.hidden) {
      following = near;
      followButton.setAttribute("aria-pressed", String(near));
    }
  });

  followButton.addEventListener("click", () => setFollowing(!following));
  document.querySelector("[data-log-end]").addEventListener("click", toTheEnd);

  const wrapButton = document.querySelector("[data-log-wrap]");
  wrapButton.addEventListener("click", () => {
    const wrapped = wrapButton.getAttribute("aria-pressed") !== "true";
    wrapButton.setAttribute("aria-pressed", String(wrapped));
    log.classList.toggle("no-wrap", !wrapped);
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-log-step]");
    const part = link && document.getElementById(`step-${link.dataset.logStep}`);
    if (link) {
      event.preventDefault();
      if (part) {
        setFollowing(false);
        log.scrollTop = part.offsetTop - log.offsetTop;
        log.focus({ preventScroll: true });
        log.scrollIntoView({ block: "nearest" });
      }
    }
  });

  // ---- Search -------------------------------------------------------------------------------

  let words = [];

  function filter(lines) {
    for (const line of lines) {
      const text = line.textContent.toLowerCase();
      line.hidden = !words.every((word) => text.includes(word));
    }
  }

  function countFound() {
    const lines = log.querySelectorAll(".ln");
    const shown = [...lines].filter((line) => !line.hidden).length;
    found.textContent = words.length
      ? found.dataset.words.replace("{0}", shown).replace("{1}", lines.length)
      : "";
  }

  let searchTimer = 0;
  search.addEventListener("input", () => {
    clearTimeout(searchTimer);
    searchTimer = setTimeout(() => {
      words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      log.classList.toggle("is-searched", words.length > 0);
      filter(log.querySelectorAll(".ln"));
      countFound();
    }, 120);
  });

  // ---- Output -------------------------------------------------------------------------------

  function append(output) {
    if (output.id <= lastId) {
      return; // Told twice after a reconnect.
    }
    lastId = output.id;
    const part = document.createElement("span");
    part.className = "log-part";
    if (output.step !== lastStep && !document.getElementById(`step-${output.step}`)) {
      part.id = `step-${output.step}`;
    }
    lastStep = output.step;
    part.innerHTML = output.html;
    parts.add(part);
    if (parts.size === 1) {
      requestAnimationFrame(flush); // Pieces that come together are drawn together.
    }
  }

  function flush() {
    for (const part of parts) {
      if (words.length) {
        filter(part.querySelectorAll(".ln"));
      }
      log.append(part);
    }
    parts.clear();
    log.removeAttribute("data-is-empty");
    if (words.length) {
      countFound();
    }
    if (following) {
      toTheEnd();
    }
  }

  // ---- State --------------------------------------------------------------------------------

  let shown = document.getElementById("build-head")?.dataset.buildState ?? "";
  let lastState = "";

  function showState(state) {
    const key = JSON.stringify([state.state, state.label, state.position, state.steps.map((step) => step.state)]);
    if (key === lastState) {
      return;
    }
    const isFirst = lastState === "" && state.state === shown;
    lastState = key;
    shown = state.state;
    if (!isFirst || state.steps.some((step) => step.state === "running")) {
      refreshHead();
    }
    const step = state.steps.find((one) => one.state === "running");
    const words = step ? `${state.label}: ${step.number}/${state.steps.length} ${step.title}` : state.label;
    if (said.textContent !== words) {
      said.textContent = words;
    }
  }

  // An open dialog is not torn away; the newest state is fetched when it is closed.
  function refreshHead() {
    const head = document.getElementById("build-head");
    if (head?.querySelector("dialog[open]") && shown !== "done" && shown !== "failed") {
      setTimeout(refreshHead, 500);
      return;
    }
    if (head) {
      window.htmx.trigger(head, "refresh");
    }
  }

  function writeSeconds(root) {
    for (const node of root.querySelectorAll("[data-seconds]")) {
      const seconds = Number(node.dataset.seconds);
      if (seconds >= 60) {
        node.textContent = window.ds01.durationText(seconds);
      }
    }
  }
  document.addEventListener("htmx:afterSettle", (event) => writeSeconds(event.detail.elt.parentElement ?? document));

  // ---- The connection -----------------------------------------------------------------------

  let source = null;
  let lostTimer = 0;
  let ended = false;

  function heard() {
    clearTimeout(lostTimer);
    lostTimer = 0;
    log.removeAttribute("data-is-lost");
  }

  function end() {
    ended = true;
    source.close();
    heard();
    followButton.hidden = true;
    refreshHead();
  }

  function open() {
    source = new EventSource(`${log.dataset.streamUrl}?last_id=${lastId}`);
    source.addEventListener("open", heard);
    source.addEventListener("output", (event) => append(JSON.parse(event.data)));
    source.addEventListener("state", (event) => showState(JSON.parse(event.data)));
    source.addEventListener("end", end);
    source.addEventListener("error", () => {
      lostTimer ||= setTimeout(() => log.setAttribute("data-is-lost", ""), SAY_LOST_AFTER_MS);
      if (source.readyState === EventSource.CLOSED && !ended) {
        setTimeout(open, RETRY_MS); // A proxy's error while the portal restarts.
      }
    });
  }

  if (!log.querySelector(".ln")) {
    log.setAttribute("data-is-empty", "");
  }
  writeSeconds(document);
  if (log.dataset.liveLog === "yes") {
    toTheEnd();
    open();
    window.addEventListener("pagehide", () => source.close());
    window.addEventListener("pageshow", (event) => {
      if (event.persisted && !ended) {
        open();
      }
    });
  } else if (document.querySelector(".step-failed")) {
    toTheEnd();
  }
})();
