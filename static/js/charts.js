// CPU, memory and GPU charts, drawn by uPlot from a JSON address asked every 5 seconds.
//
// On the page: <div class="charts" data-chart-url="…"></div>. The answer:
//   {"times": [unix seconds, …],
//    "charts": [{"key", "label", "unit", "max": number|null, "values": [number|null, …],
//                "text": "12 % now, 40 % at most in the last hour"}, …]}
// `text` stands beside each chart and is its alternative for people who do not see it. A null
// value is a gap: not measured is not zero.
//
// With "append": true the answer is one more reading, and the page keeps the series itself, an
// hour at most; "next" is then the query of the next question (a rate needs the last reading).
(() => {
  "use strict";

  const POLL_MS = 5000;
  const KEPT_POINTS = 720;
  const LEAST_SECONDS = 60;

  const variable = (name) =>
    getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const clock = new Intl.DateTimeFormat(document.documentElement.lang || undefined, {
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
  });

  function axis(extra) {
    return {
      stroke: variable("--ds-soft"),
      grid: { stroke: variable("--ds-line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif",
      ...extra,
    };
  }

  function optionsFor(chart, width, height) {
    return {
      width,
      height,
      legend: { show: false },
      cursor: { y: false },
      // A minute at least, or the first reading alone would stand in the middle of two days.
      scales: {
        x: {
          range: (plot, low, high) => {
            const [times] = plot.data;
            const last = times.length === 1 ? times[0] : high;
            return [Math.min(low, last - LEAST_SECONDS), last];
          },
        },
        y: { range: (_, low, high) => [0, chart.max ?? Math.max(high ?? 1, 1)] },
      },
      axes: [
        axis({
          space: 70,
          size: 28,
          incrs: [60, 120, 300, 600, 900, 1800, 3600], // labels have no seconds
          values: (_, ticks) => ticks.map((tick) => clock.format(tick * 1000)),
        }),
        axis({ size: 52, values: (_, ticks) => ticks.map((tick) => `${tick} ${chart.unit}`) }),
      ],
      series: [
        {},
        {
          label: chart.label,
          stroke: variable("--ds-brand"),
          fill: variable("--ds-brand-soft"),
          width: 2,
          points: { show: false },
        },
      ],
    };
  }

  class Chart {
    constructor(root, key) {
      this.figure = document.createElement("figure");
      this.figure.className = "chart";
      const caption = document.createElement("figcaption");
      this.label = document.createElement("b");
      this.words = document.createElement("span");
      this.words.className = "text-soft";
      caption.append(this.label, this.words);
      this.box = document.createElement("div");
      this.box.className = "chart-plot";
      this.box.setAttribute("aria-hidden", "true"); // The caption says it in words.
      this.figure.append(caption, this.box);
      this.figure.dataset.chart = key;
      root.append(this.figure);
      this.plot = null;
      this.resizing = new ResizeObserver(() => this.resize());
      this.resizing.observe(this.box);
    }

    draw(times, chart) {
      this.last = [times, chart];
      this.label.textContent = chart.label;
      this.words.textContent = chart.text;
      const data = [times, chart.values];
      if (this.plot) {
        this.plot.setData(data);
      } else if (this.box.clientWidth > 0) {
        const { clientWidth, clientHeight } = this.box;
        this.plot = new window.uPlot(optionsFor(chart, clientWidth, clientHeight), data, this.box);
      }
    }

    // Colours and limits are fixed when a plot is made, so a new theme makes a new plot.
    redraw() {
      this.plot?.destroy();
      this.plot = null;
      if (this.last) {
        this.draw(...this.last);
      }
    }

    resize() {
      const { clientWidth: width, clientHeight: height } = this.box;
      if (this.plot && width > 0) {
        this.plot.setSize({ width, height });
      } else if (this.last) {
        this.draw(...this.last);
      }
    }

    remove() {
      this.resizing.disconnect();
      this.plot?.destroy();
      this.figure.remove();
    }
  }

  class ChartBoard {
    constructor(root) {
      this.root = root;
      this.charts = new Map();
      this.kept = null;
      this.next = "";
      document.addEventListener("ds01:theme", () => {
        this.charts.forEach((chart) => chart.redraw());
      });
      this.poll();
    }

    async poll() {
      if (!this.root.isConnected) {
        return;
      }
      if (!document.hidden) {
        await this.load();
      }
      setTimeout(() => this.poll(), POLL_MS);
    }

    async load() {
      try {
        const response = await fetch(this.root.dataset.chartUrl + this.next, {
          headers: { Accept: "application/json" },
        });
        if (response.ok) {
          const answer = await response.json();
          this.next = answer.next ?? "";
          this.show(answer.append ? this.append(answer) : answer);
        }
      } catch {
        // The connection bar says it; the last drawing stays.
      }
    }

    // Joins a reading to those before it; a chart that was not there before starts with gaps.
    append({ times, charts }) {
      const before = this.kept ?? { times: [], values: new Map() };
      const all = [...before.times, ...times].slice(-KEPT_POINTS);
      const values = new Map();
      for (const chart of charts) {
        const old = before.values.get(chart.key) ?? before.times.map(() => null);
        values.set(chart.key, [...old, ...chart.values].slice(-KEPT_POINTS));
      }
      this.kept = charts.length ? { times: all, values } : null;
      return {
        times: all,
        charts: charts.map((chart) => ({ ...chart, values: values.get(chart.key) })),
      };
    }

    show({ times, charts }) {
      const keys = new Set(charts.map((chart) => chart.key));
      for (const [key, chart] of this.charts) {
        if (!keys.has(key)) {
          chart.remove();
          this.charts.delete(key);
        }
      }
      for (const chart of charts) {
        if (!this.charts.has(chart.key)) {
          this.charts.set(chart.key, new Chart(this.root, chart.key));
        }
        this.charts.get(chart.key).draw(times, chart);
      }
      const empty = this.root.parentElement?.querySelector("[data-chart-empty]");
      if (empty) {
        empty.hidden = charts.length > 0;
      }
    }
  }

  const boards = new WeakSet();

  function findBoards() {
    for (const root of document.querySelectorAll("[data-chart-url]")) {
      if (!boards.has(root)) {
        boards.add(root);
        new ChartBoard(root);
      }
    }
  }

  document.addEventListener("htmx:afterSettle", findBoards);
  findBoards();
})();
