// The builder: findings and the Dockerfile are fetched while the form is filled, files are read
// into it, and a finding leads to its line. Not in charge of deciding anything: the server checks
// again when the form is sent, and the form works without this file.
//
// On the page, inside <form data-recipe-form data-preview-url="…" data-import-url="…">:
//   [data-show-when="field=value"]  shown for this value only
//   [data-filter="selector"]        input: hide items of that selector not holding its words
//   [data-import-notes]             list for what a file left out
// Anywhere: [data-preview] (the side column), [data-preview-said] (its sentence, for those who
// hear), [data-goto="field" data-goto-line="3"], [data-save-from="#id" data-save-as="name"],
// [data-files-url] (fetches [data-dependency-url] buttons into [data-files-list]; such an
// address answers {"name", "text"}), [data-summary="base"].
(() => {
  "use strict";

  const form = document.querySelector("form[data-recipe-form]");
  if (!form) {
    return;
  }

  const PREVIEW_DELAY_MS = 250;
  const headers = () => ({ "X-CSRFToken": window.ds01.csrfToken(), "HX-Request": "true" });
  const field = (name) => form.querySelector(`#id_${CSS.escape(name)}`);
  const requirements = field("requirements");

  // ---- Line numbers -------------------------------------------------------------------------

  // Beside each field that is written line by line; wrong lines are marked in it.
  const gutters = new Map();

  function addGutter(area) {
    const gutter = document.createElement("div");
    gutter.className = "gutter mono";
    gutter.setAttribute("aria-hidden", "true");
    const frame = document.createElement("div");
    frame.className = "numbered";
    area.replaceWith(frame);
    frame.append(gutter, area);
    area.setAttribute("wrap", "off");
    area.addEventListener("scroll", () => {
      gutter.scrollTop = area.scrollTop;
    });
    gutters.set(area, gutter);
    numberLines(area, new Set());
  }

  function numberLines(area, bad) {
    const gutter = gutters.get(area);
    const count = area.value.split("\n").length;
    const lines = [];
    for (let number = 1; number <= count; number += 1) {
      const line = document.createElement("span");
      line.textContent = number;
      line.className = bad.has(number) ? "bad" : "";
      lines.push(line);
    }
    gutter.replaceChildren(...lines);
    gutter.scrollTop = area.scrollTop;
  }

  function badLines(name) {
    const found = new Set();
    for (const node of document.querySelectorAll("[data-bad-line]")) {
      const [place, number] = node.dataset.badLine.split(":");
      if (place === name) {
        found.add(Number(number));
      }
    }
    return found;
  }

  const numberAll = () => gutters.forEach((_, area) => numberLines(area, badLines(area.name)));

  function goTo(link) {
    const target = field(link.dataset.goto);
    if (!target) {
      return;
    }
    target.scrollIntoView({ block: "center" });
    const input = target.matches("input, textarea, select") ? target : target.querySelector("input:checked, input");
    input?.focus({ preventScroll: true });
    const number = Number(link.dataset.gotoLine ?? 0);
    if (number && input instanceof HTMLTextAreaElement) {
      const lines = input.value.split("\n");
      const start = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
      input.setSelectionRange(start, start + (lines[number - 1]?.length ?? 0));
      const height = Number.parseFloat(getComputedStyle(input).lineHeight) || 20;
      input.scrollTop = Math.max(0, (number - 3) * height);
    }
  }

  // ---- Parts that depend on a choice --------------------------------------------------------

  function showDependent() {
    const values = new FormData(form);
    for (const part of form.querySelectorAll("[data-show-when]")) {
      const [name, wanted] = part.dataset.showWhen.split("=");
      part.hidden = values.get(name) !== wanted;
    }
    const base = form.querySelector('input[name="base"]:checked');
    for (const node of document.querySelectorAll('[data-summary="base"]')) {
      node.textContent = base?.dataset.label ?? "";
    }
  }

  function filterItems(input) {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of form.querySelectorAll(input.dataset.filter)) {
      const shelf = item.closest("fieldset")?.querySelector("legend")?.textContent ?? "";
      const text = `${shelf} ${item.textContent}`.toLowerCase();
      item.hidden = !words.every((word) => text.includes(word));
    }
    if (words.length) {
      openFound(input.dataset.filter);
    }
  }

  // What is found, or chosen, must be seen.
  function openFound(selector) {
    for (const part of form.querySelectorAll("details[data-keep-open]")) {
      const items = [...part.querySelectorAll(selector)];
      part.open = items.some((item) => !item.hidden);
    }
  }

  // ---- Preview ------------------------------------------------------------------------------

  const side = document.querySelector("[data-preview]");
  const said = document.querySelector("[data-preview-said]");
  let timer = 0;
  let running = null;
  let lastDockerfile = side.querySelector(".dockerfile")?.cloneNode(true) ?? null;

  async function preview() {
    running?.abort();
    running = new AbortController();
    side.setAttribute("aria-busy", "true");
    const data = new FormData(form);
    data.delete("requirements_file");
    try {
      const answer = await fetch(form.dataset.previewUrl, {
        method: "POST",
        body: data,
        headers: headers(),
        signal: running.signal,
      });
      if (!answer.ok) {
        throw new Error(String(answer.status));
      }
      show(await answer.text());
    } catch (error) {
      if (error.name === "AbortError") {
        return; // A newer question is on its way and will take the mark off.
      }
      window.ds01.notify("warning", side.dataset.failedWords);
    }
    side.removeAttribute("aria-busy");
  }

  // What was folded open stays so, the Dockerfile keeps its place, and while something cannot be
  // read the last good one stays visible, dimmed.
  function show(html) {
    const open = [...side.querySelectorAll("details")].map((part) => part.open);
    const top = side.querySelector(".dockerfile")?.scrollTop ?? 0;
    window.htmx.swap(side, html, { swapStyle: "innerHTML" });
    side.querySelectorAll("details").forEach((part, index) => {
      part.open = open[index] ?? false;
    });
    const missing = side.querySelector("[data-dockerfile-missing]");
    if (missing && lastDockerfile) {
      const old = lastDockerfile.cloneNode(true);
      old.classList.add("is-stale");
      missing.after(old);
    }
    const now = side.querySelector(".dockerfile");
    if (now) {
      now.scrollTop = top;
      lastDockerfile = missing ? lastDockerfile : now.cloneNode(true);
    }
    const sentence = side.querySelector("[data-preview-sentence]")?.textContent ?? "";
    if (said.textContent !== sentence) {
      said.textContent = sentence;
    }
    numberAll();
  }

  let changedSinceSent = false;

  function changed() {
    changedSinceSent = true;
    showDependent();
    clearTimeout(timer);
    timer = setTimeout(preview, PREVIEW_DELAY_MS);
  }

  // ---- Files --------------------------------------------------------------------------------

  function note(lines) {
    const list = form.querySelector("[data-import-notes]");
    list.replaceChildren(
      ...lines.map((line) => {
        const item = document.createElement("li");
        item.textContent = line;
        return item;
      }),
    );
  }

  async function importFile(parts) {
    const data = new FormData();
    for (const [name, value] of Object.entries(parts)) {
      data.append(name, value);
    }
    data.append("requirements", requirements.value);
    try {
      const answer = await fetch(form.dataset.importUrl, {
        method: "POST",
        body: data,
        headers: headers(),
      });
      const found = await answer.json();
      if (!answer.ok) {
        note([found.error]);
        return;
      }
      requirements.value = found.text;
      note(found.notes);
      requirements.dispatchEvent(new Event("input", { bubbles: true }));
      requirements.focus();
    } catch {
      window.ds01.notify("error", window.ds01.text("unreachable"));
    }
  }

  const fileInput = field("requirements_file");
  fileInput?.addEventListener("change", () => {
    if (fileInput.files.length) {
      importFile({ requirements_file: fileInput.files[0] });
      fileInput.value = ""; // Its lines are in the form now.
    }
  });

  const dropZone = requirements.closest(".card");
  dropZone.addEventListener("dragover", (event) => {
    if ([...event.dataTransfer.types].includes("Files")) {
      event.preventDefault();
      dropZone.classList.add("is-dropping");
    }
  });
  dropZone.addEventListener("dragleave", () => dropZone.classList.remove("is-dropping"));
  dropZone.addEventListener("drop", (event) => {
    dropZone.classList.remove("is-dropping");
    if (event.dataTransfer.files.length) {
      event.preventDefault();
      importFile({ requirements_file: event.dataTransfer.files[0] });
    }
  });

  async function listFiles(button) {
    const list = document.querySelector("[data-files-list]");
    const answer = await fetch(button.dataset.filesUrl, { headers: headers() });
    if (answer.ok) {
      list.innerHTML = await answer.text();
      window.ds01.tickTimes(list);
    } else {
      list.textContent = window.ds01.text("requestFailed", answer.status);
    }
  }

  async function takeFile(button) {
    const answer = await fetch(button.dataset.dependencyUrl, { headers: headers() });
    const found = await answer.json();
    button.closest("dialog")?.close();
    if (answer.ok) {
      importFile({ text: found.text, filename: found.name });
    } else {
      note([found.error]);
    }
  }

  function saveText(button) {
    const text = document.querySelector(button.dataset.saveFrom)?.textContent ?? "";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
    link.download = button.dataset.saveAs;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // ---- Events -------------------------------------------------------------------------------

  form.addEventListener("input", (event) => {
    if (event.target.dataset.filter) {
      filterItems(event.target);
    } else if (event.target !== fileInput) {
      if (gutters.has(event.target)) {
        numberLines(event.target, badLines(event.target.name));
      }
      changed();
    }
  });

  document.addEventListener("click", (event) => {
    const node = event.target instanceof Element ? event.target : null;
    const link = node?.closest("[data-goto]");
    if (link) {
      event.preventDefault();
      goTo(link);
      return;
    }
    const acts = { "[data-save-from]": saveText, "[data-files-url]": listFiles, "[data-dependency-url]": takeFile };
    for (const [selector, act] of Object.entries(acts)) {
      const found = node?.closest(selector);
      if (found) {
        act(found);
      }
    }
  });

  form.addEventListener("submit", () => {
    changedSinceSent = false;
  });
  window.addEventListener("beforeunload", (event) => {
    if (changedSinceSent) {
      event.preventDefault();
    }
  });

  for (const name of ["requirements", "environment", "post_install"]) {
    const area = field(name);
    if (area) {
      addGutter(area);
    }
  }
  for (const part of form.querySelectorAll("details[data-keep-open]")) {
    part.open ||= part.querySelector("input:checked") !== null;
  }
  showDependent();
  numberAll();
})();
