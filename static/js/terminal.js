// Terminals in the browser: xterm.js over a WebSocket, several tabs, each its own shell.
//
// On the page: components/terminal.html. Protocol at data-ws-url: binary frames are bytes both
// ways; text frames are JSON, up {"type": "resize", "cols", "rows"} (the first frame after the
// socket opens is one), down {"type": "ready"}, {"type": "exit", "code", "reason"},
// {"type": "error", "message"}. Close codes 4000-4999 are final: no reconnecting.
// A reconnect opens a new shell, and says so; the old one is ended by the server.
(() => {
  "use strict";

  const root = document.querySelector("[data-terminals]");
  if (!root) {
    return;
  }

  const text = window.ds01.text;
  const encoder = new TextEncoder();
  const MAX_TABS = 8;
  const MAX_FAILURES = 6;
  const READER_KEY = "ds01.terminal.reader";

  const THEME = {
    background: "#10161d",
    foreground: "#e6ebf1",
    cursor: "#8da2fb",
    selectionBackground: "#33437f",
  };

  function readerWanted() {
    try {
      return localStorage.getItem(READER_KEY) === "yes";
    } catch {
      return false;
    }
  }

  function socketUrl(path) {
    const url = new URL(path, window.location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
  }

  class TerminalTab {
    constructor(board, number) {
      this.board = board;
      this.failures = 0;
      this.ended = false;
      this.retryTimer = 0;
      this.makeTab(number);
      this.makePanel(number);
      this.makeTerminal();
      this.connect();
    }

    makeTab(number) {
      this.tab = document.createElement("button");
      this.tab.type = "button";
      this.tab.className = "terminal-tab";
      this.tab.id = `terminal-tab-${number}`;
      this.tab.setAttribute("role", "tab");
      this.tab.setAttribute("aria-controls", `terminal-panel-${number}`);
      this.tab.textContent = text("shell", number);
      this.tab.addEventListener("click", () => this.board.select(this));
    }

    makePanel(number) {
      this.panel = document.createElement("div");
      this.panel.className = "terminal-panel";
      this.panel.id = `terminal-panel-${number}`;
      this.panel.setAttribute("role", "tabpanel");
      this.panel.setAttribute("aria-labelledby", this.tab.id);
      this.board.panels.append(this.panel);
    }

    makeTerminal() {
      this.term = new window.Terminal({
        cursorBlink: !window.matchMedia("(prefers-reduced-motion: reduce)").matches,
        fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--ds-mono"),
        fontSize: 14,
        minimumContrastRatio: 4.5,
        screenReaderMode: readerWanted(),
        scrollback: 5000,
        theme: THEME,
      });
      this.fitter = new window.FitAddon.FitAddon();
      this.term.loadAddon(this.fitter);
      this.term.loadAddon(new window.WebLinksAddon.WebLinksAddon((event, uri) => {
        event.preventDefault();
        window.open(uri, "_blank", "noopener,noreferrer");
      }));
      this.term.open(this.panel);
      this.term.textarea.setAttribute("aria-label", text("terminalName", root.dataset.name));
      this.term.attachCustomKeyEventHandler((event) => this.onKey(event));
      this.term.onData((data) => this.onData(data));
      this.term.onBinary((data) => this.send(Uint8Array.from(data, (c) => c.charCodeAt(0))));
      this.term.onResize(() => this.sendSize());
      this.watcher = new ResizeObserver(() => this.fit());
      this.watcher.observe(this.panel);
    }

    // Ctrl+C belongs to the shell, so copying is Ctrl+Shift+C; pasting is left to the browser,
    // which asks nobody when it comes from a key. Ctrl+F6 leaves the terminal by keyboard.
    onKey(event) {
      const chord = event.ctrlKey && event.shiftKey && !event.altKey;
      if (chord && event.code === "KeyC") {
        if (event.type === "keydown" && this.term.hasSelection()) {
          navigator.clipboard?.writeText(this.term.getSelection());
        }
        event.preventDefault();
        return false;
      }
      if (chord && event.code === "KeyV") {
        return false;
      }
      if (event.ctrlKey && event.code === "F6") {
        event.preventDefault();
        if (event.type === "keydown") {
          this.tab.focus();
        }
        return false;
      }
      return true;
    }

    onData(data) {
      if (this.ended) {
        if (data === "\r") {
          this.restart();
        }
        return;
      }
      this.send(encoder.encode(data));
    }

    send(payload) {
      if (this.socket?.readyState === WebSocket.OPEN) {
        this.socket.send(payload);
      }
    }

    sendSize() {
      this.send(JSON.stringify({ type: "resize", cols: this.term.cols, rows: this.term.rows }));
    }

    fit() {
      if (!this.panel.hidden && this.panel.clientHeight > 0) {
        this.fitter.fit();
      }
    }

    connect() {
      this.wasReady = false;
      this.say(text("connecting"));
      this.socket = new WebSocket(socketUrl(root.dataset.wsUrl));
      this.socket.binaryType = "arraybuffer";
      this.socket.addEventListener("open", () => {
        this.fit();
        this.sendSize();
      });
      this.socket.addEventListener("message", (event) => this.onMessage(event.data));
      this.socket.addEventListener("close", (event) => this.onClose(event));
    }

    restart() {
      this.ended = false;
      this.failures = 0;
      this.term.reset();
      this.connect();
    }

    onMessage(data) {
      if (typeof data !== "string") {
        this.term.write(new Uint8Array(data));
        return;
      }
      const message = JSON.parse(data);
      if (message.type === "ready") {
        this.wasReady = true;
        this.failures = 0;
        this.say(text("connected"));
      } else if (message.type === "exit") {
        this.end(message.reason || text("shellEnded", message.code ?? "?"));
      } else if (message.type === "error") {
        this.end(message.message);
      }
    }

    onClose(event) {
      if (this.ended || this.closed) {
        return;
      }
      if (event.code >= 4000) {
        this.end(event.reason || text("terminalRefused"));
        return;
      }
      this.failures += 1;
      if (this.failures > MAX_FAILURES) {
        this.end(text("terminalGaveUp"));
        return;
      }
      const seconds = Math.min(2 ** (this.failures - 1), 15);
      if (this.wasReady) {
        this.line(text("terminalLost"));
      }
      this.say(text("terminalRetry", seconds));
      this.retryTimer = setTimeout(() => this.connect(), seconds * 1000);
    }

    end(reason) {
      this.ended = true;
      this.line(reason);
      this.line(text("pressEnter"));
      this.say(reason);
      this.socket?.close();
    }

    // The words come from the server or the translation: control bytes are taken out.
    line(words) {
      const plain = String(words).replace(/[\u0000-\u001f\u007f-\u009f]/g, " ");
      this.term.write(`\r\n\x1b[2m[${plain}]\x1b[0m\r\n`);
    }

    say(words) {
      this.status = words;
      this.board.showStatus();
    }

    close() {
      this.closed = true;
      clearTimeout(this.retryTimer);
      this.watcher.disconnect();
      this.socket?.close();
      this.term.dispose();
      this.tab.remove();
      this.panel.remove();
    }
  }

  class TerminalBoard {
    constructor() {
      this.bar = root.querySelector("[data-terminal-tabs]");
      this.panels = root.querySelector("[data-terminal-panels]");
      this.statusNode = root.querySelector("[data-terminal-status]");
      this.tabs = [];
      this.count = 0;
      this.active = null;
      this.onButton("add", () => this.add());
      this.onButton("close", () => this.closeActive());
      this.onButton("reader", () => this.toggleReader());
      this.onButton("full", () => this.toggleFull());
      this.bar.addEventListener("keydown", (event) => this.onBarKey(event));
      this.markReader();
      this.add();
    }

    onButton(name, act) {
      root.querySelector(`[data-terminal-${name}]`)?.addEventListener("click", act);
    }

    add() {
      if (this.tabs.length >= MAX_TABS) {
        window.ds01.notify("info", text("tooManyTabs", MAX_TABS));
        return;
      }
      this.count += 1;
      const tab = new TerminalTab(this, this.count);
      this.tabs.push(tab);
      this.bar.append(tab.tab);
      this.select(tab);
    }

    select(chosen, { focusTerminal = true } = {}) {
      this.active = chosen;
      for (const tab of this.tabs) {
        const on = tab === chosen;
        tab.tab.setAttribute("aria-selected", String(on));
        tab.tab.tabIndex = on ? 0 : -1;
        tab.panel.hidden = !on;
      }
      chosen.fit();
      if (focusTerminal) {
        chosen.term.focus();
      } else {
        chosen.tab.focus();
      }
      this.showStatus();
    }

    closeActive() {
      const index = this.tabs.indexOf(this.active);
      this.active.close();
      this.tabs.splice(index, 1);
      if (this.tabs.length) {
        this.select(this.tabs[Math.max(0, index - 1)]);
      } else {
        this.add();
      }
    }

    onBarKey(event) {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        const index = this.tabs.indexOf(this.active) + step + this.tabs.length;
        this.select(this.tabs[index % this.tabs.length], { focusTerminal: false });
      }
    }

    showStatus() {
      const words = this.active?.status ?? "";
      if (this.statusNode.textContent !== words) {
        this.statusNode.textContent = words;
      }
    }

    markReader() {
      const button = root.querySelector("[data-terminal-reader]");
      button?.setAttribute("aria-pressed", String(readerWanted()));
    }

    toggleReader() {
      const wanted = !readerWanted();
      try {
        localStorage.setItem(READER_KEY, wanted ? "yes" : "no");
      } catch {
        // Not remembered, still switched for this page.
      }
      for (const tab of this.tabs) {
        tab.term.options.screenReaderMode = wanted;
      }
      root.querySelector("[data-terminal-reader]").setAttribute("aria-pressed", String(wanted));
    }

    async toggleFull() {
      if (document.fullscreenElement) {
        await document.exitFullscreen();
      } else {
        await root.requestFullscreen?.();
      }
      this.active?.term.focus();
    }
  }

  new TerminalBoard();
})();
