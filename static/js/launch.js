// The launch form: a summary that follows the choices, presets, and a pre-flight list fetched
// from the server while the form is filled. Not in charge of deciding anything: the server
// checks again when the form is sent.
//
// On the page, inside <form data-launch-form data-preflight-url="…">:
//   [data-preflight]                 where the pre-flight HTML goes (out-of-band parts allowed)
//   [data-summary="field"]           shows the chosen label(s); data-summary-empty="…" for none
//   [data-show-when="field=a|b"]     shown (and its inputs enabled) for these values only
//   [data-devices data-max-devices]  device tiles; [data-devices-full] is its reason line
//   [data-gpus-preset="N"]           button: pick the first N devices that can be picked
//   [data-filter="selector"]         input: hide items of that selector not holding its words
//   output[data-output-for="field"]  shows a range's value, with data-unit
// [data-summary], [data-preflight] may also stand outside the form (a sticky aside).
(() => {
  "use strict";

  const form = document.querySelector("form[data-launch-form]");
  if (!form) {
    return;
  }

  const PREFLIGHT_DELAY_MS = 300;

  // ---- Summary ------------------------------------------------------------------------------

  const fieldsNamed = (name) => form.querySelectorAll(`[name="${CSS.escape(name)}"]`);

  function labelOf(input) {
    return input.dataset.label ?? input.labels?.[0]?.textContent.trim() ?? input.value;
  }

  function chosenLabels(name) {
    const labels = [];
    for (const input of fieldsNamed(name)) {
      if (input.matches(":disabled")) {
        continue; // Also inside a closed fieldset.
      }
      if (input.type === "radio" || input.type === "checkbox") {
        if (input.checked) {
          labels.push(labelOf(input));
        }
      } else if (input instanceof HTMLSelectElement) {
        labels.push(...[...input.selectedOptions].filter((o) => o.value).map((o) => o.text.trim()));
      } else if (input.value) {
        labels.push(input.value + (input.dataset.unit ? ` ${input.dataset.unit}` : ""));
      }
    }
    return labels;
  }

  function writeSummary() {
    for (const node of document.querySelectorAll("[data-summary]")) {
      const shown = chosenLabels(node.dataset.summary).join(", ");
      node.textContent = shown || (node.dataset.summaryEmpty ?? "–");
    }
    for (const output of form.querySelectorAll("output[data-output-for]")) {
      const field = fieldsNamed(output.dataset.outputFor)[0];
      output.value = field ? `${field.value} ${output.dataset.unit ?? ""}`.trim() : "";
    }
  }

  // ---- Parts that depend on another field ---------------------------------------------------

  function valuesOf(name) {
    return new FormData(form).getAll(name).map(String);
  }

  function showDependent() {
    for (const part of form.querySelectorAll("[data-show-when]")) {
      const [name, wanted] = part.dataset.showWhen.split("=");
      const on = valuesOf(name).some((value) => wanted.split("|").includes(value));
      part.hidden = !on;
      if (part instanceof HTMLFieldSetElement) {
        part.disabled = !on;
      }
    }
  }

  // ---- Devices ------------------------------------------------------------------------------

  const devices = form.querySelector("[data-devices]");
  const deviceInputs = () => [...(devices?.querySelectorAll('input[type="checkbox"]') ?? [])];

  // At the limit the other tiles are closed with the reason beside them; the server's own
  // "cannot be picked" marks stay as they are.
  function holdToLimit() {
    if (!devices) {
      return;
    }
    const limit = Number(devices.dataset.maxDevices ?? Infinity);
    const inputs = deviceInputs();
    const full = inputs.filter((input) => input.checked).length >= limit;
    for (const input of inputs) {
      if (input.disabled && !("overLimit" in input.dataset)) {
        continue;
      }
      input.disabled = full && !input.checked;
      input.toggleAttribute("data-over-limit", input.disabled);
    }
    const reason = devices.querySelector("[data-devices-full]");
    if (reason) {
      reason.hidden = !full;
    }
    markPreset(inputs);
  }

  function markPreset(inputs) {
    const count = String(inputs.filter((input) => input.checked).length);
    for (const button of form.querySelectorAll("[data-gpus-preset]")) {
      button.setAttribute("aria-pressed", String(button.dataset.gpusPreset === count));
    }
  }

  function usePreset(button) {
    const inputs = deviceInputs().filter(
      (input) => !input.disabled || "overLimit" in input.dataset,
    );
    inputs.forEach((input, index) => {
      input.checked = index < Number(button.dataset.gpusPreset);
    });
    changed();
  }

  // ---- Filter -------------------------------------------------------------------------------

  function filterItems(input) {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of document.querySelectorAll(input.dataset.filter)) {
      const haystack = item.textContent.toLowerCase();
      item.hidden = !words.every((word) => haystack.includes(word));
    }
    // What is found must be seen: parts that are folded away open while there are words.
    for (const part of form.querySelectorAll("details")) {
      const items = [...part.querySelectorAll(input.dataset.filter)];
      part.open = items.some((item) => (words.length && !item.hidden) || item.querySelector(":checked"));
    }
  }

  // ---- Pre-flight ---------------------------------------------------------------------------

  let timer = 0;
  let running = null;

  async function preflight() {
    const target = document.querySelector("[data-preflight]");
    if (!target || !form.dataset.preflightUrl) {
      return;
    }
    running?.abort();
    const request = new AbortController();
    running = request;
    target.setAttribute("aria-busy", "true");
    try {
      const response = await fetch(form.dataset.preflightUrl, {
        method: "POST",
        body: new FormData(form),
        headers: { "X-CSRFToken": window.ds01.csrfToken(), "HX-Request": "true" },
        signal: request.signal,
      });
      if (!response.ok && response.status !== 422) {
        throw new Error(String(response.status));
      }
      window.htmx.swap(target, await response.text(), { swapStyle: "innerHTML" });
    } catch (error) {
      if (error.name === "AbortError") {
        return; // A newer question is on its way and will take the mark off.
      }
      target.textContent = window.ds01.text("preflightFailed");
    }
    target.removeAttribute("aria-busy");
  }

  function changed() {
    showDependent();
    holdToLimit();
    writeSummary();
    clearTimeout(timer);
    timer = setTimeout(preflight, PREFLIGHT_DELAY_MS);
  }

  form.addEventListener("input", (event) => {
    if (event.target.dataset.filter) {
      filterItems(event.target);
    } else {
      changed();
    }
  });
  form.addEventListener("change", changed);
  form.addEventListener("click", (event) => {
    const preset = event.target.closest("[data-gpus-preset]");
    if (preset) {
      usePreset(preset);
    }
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.dataset.filter) {
      event.preventDefault(); // Searching is not launching.
    }
  });

  changed();
})();
