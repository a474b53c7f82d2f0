// What the pages do beyond links and forms: copying, curves, keys. Everything can be read without it.
(function () {
  "use strict";

  var root = document.documentElement;

  function color(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }

  // -- theme ---------------------------------------------------------------
  var theme = document.getElementById("theme");
  if (theme) theme.addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("ftsim-theme", root.dataset.theme); } catch (error) { /* it lasts for this page */ }
    drawAll();
  });

  // -- copying -------------------------------------------------------------
  document.addEventListener("click", function (event) {
    var button = event.target.closest && event.target.closest("[data-copy]");
    if (!button) return;
    navigator.clipboard.writeText(button.dataset.copy).then(function () {
      var said = button.textContent;
      button.textContent = "Copied";
      setTimeout(function () { button.textContent = said; }, 1200);
    });
  });

  // -- live parts: not while somebody works in them, nor unseen --------------
  document.addEventListener("htmx:beforeRequest", function (event) {
    var part = event.detail.elt;
    if (part.id !== "live") return;
    var busy = part.querySelector("details[open], :focus:is(input, select, textarea)") || part.matches(":hover:active");
    var selected = getSelection && !getSelection().isCollapsed && part.contains(getSelection().anchorNode);
    if (document.hidden || busy || selected) event.preventDefault();
  });

  // -- filters act at once ---------------------------------------------------
  document.addEventListener("change", function (event) {
    var form = event.target.form;
    if (form && form.classList.contains("filter") && event.target.type !== "search") form.requestSubmit();
  });

  // -- files that are uploaded ----------------------------------------------
  document.addEventListener("change", function (event) {
    var input = event.target;
    if (!input.dataset || !input.dataset.upload || !input.files.length) return;
    var token = document.querySelector("meta[name=form-token]").content;
    fetch(input.dataset.upload + "?name=" + encodeURIComponent(input.files[0].name), {
      method: "POST", body: input.files[0], headers: { "x-form-token": token },
    }).then(function (answer) { location.assign(answer.url); });
  });

  // -- curves ----------------------------------------------------------------
  var curves = document.getElementById("curves");
  var drawn = {}, told = null;

  function short(value) {
    if (value === null || value === undefined) return "–";
    var size = Math.abs(value);
    if (size && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace(/\.?0+e/, "e");
    return Number(value.toPrecision(4)).toString();
  }

  function palette(index) { return color("--line-" + (index % 6)); }

  // A range that is nothing beside its numbers would be divided into steps that rounding swallows, without end.
  function range(_, low, high) {
    if (low === null || high === null) return [0, 1];
    var size = Math.max(Math.abs(low), Math.abs(high));
    if (high - low > size * 1e-4) return uPlot.rangeNum(low, high, 0.1, true);
    return [low - (size * 0.05 || 1), high + (size * 0.05 || 1)];
  }

  function draw(figure) {
    var holder = curves.querySelector('figure[data-key="' + CSS.escape(figure.key) + '"]');
    if (!holder) return false;
    var box = holder.querySelector(".plot"), reading = holder.querySelector(".reading");
    if (drawn[figure.key]) drawn[figure.key].destroy();
    box.textContent = "";
    var data = uPlot.join(figure.lines.map(function (line) { return line.points; }));
    var axis = { stroke: color("--muted"), grid: { stroke: color("--grid"), width: 1 }, ticks: { stroke: color("--grid"), width: 1 },
                 font: "11px ui-sans-serif, system-ui, sans-serif" };
    drawn[figure.key] = new uPlot({
      width: box.clientWidth || 320, height: 150, padding: [8, 8, 0, 0],
      legend: { show: false }, scales: { x: { time: false }, y: { range: range } },
      cursor: { sync: { key: "run" }, points: { size: 5 } },
      axes: [
        Object.assign({ size: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000] }, axis),
        Object.assign({ size: 64, values: function (_, ticks) { return ticks.map(short); } }, axis),
      ],
      series: [{ label: "step" }].concat(figure.lines.map(function (line, index) {
        return { label: line.label, stroke: palette(index), width: 1.5, spanGaps: true,
                 points: { show: line.points[0].length < 40, size: 4, fill: palette(index), stroke: palette(index) } };
      })),
      hooks: {
        draw: [function (plot) {
          var context = plot.ctx;
          context.save();
          context.strokeStyle = color("--mark");
          context.setLineDash([3, 4]);
          context.lineWidth = devicePixelRatio;
          told.saves.forEach(function (save) {
            var x = Math.round(plot.valToPos(save[0], "x", true));
            if (x < plot.bbox.left || x > plot.bbox.left + plot.bbox.width) return;
            context.beginPath();
            context.moveTo(x, plot.bbox.top);
            context.lineTo(x, plot.bbox.top + plot.bbox.height);
            context.stroke();
          });
          context.restore();
        }],
        setCursor: [function (plot) {
          var at = plot.cursor.idx;
          if (at === null || at === undefined) { reading.textContent = figure.last; return; }
          var values = plot.data.slice(1).map(function (column) { return column[at]; }).filter(function (value) { return value !== null && value !== undefined; });
          reading.textContent = "step " + plot.data[0][at] + ": " + values.map(short).join(", ");
        }],
      },
    }, data, box);
    return true;
  }

  function drawAll() {
    if (!curves || !told || !window.uPlot) return;
    if (!told.figures.every(draw) || told.figures.length !== curves.querySelectorAll("figure").length) location.reload();
  }

  function look(version) {
    if (document.hidden) return;
    fetch(curves.dataset.src + (version ? "?seen=" + encodeURIComponent(version) : "")).then(function (answer) {
      if (answer.status !== 200) return null;
      return answer.json().then(function (found) { told = found; curves.dataset.version = found.version; drawAll(); });
    }).catch(function () { /* the emulator is away; the next look may find it */ });
  }

  if (curves) {
    look("");
    setInterval(function () { look(curves.dataset.version); }, 4000);
    var waiting = null;
    addEventListener("resize", function () { clearTimeout(waiting); waiting = setTimeout(drawAll, 150); });
  }

  // -- keys: / finds, g and a letter goes to a page -----------------------------
  var going = false;
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    if (event.key === "/") {
      var search = document.querySelector("[data-search]");
      if (search) { event.preventDefault(); search.focus(); }
    } else if (going) {
      going = false;
      var page = document.querySelector('nav a[data-key="' + CSS.escape(event.key) + '"]');
      if (page) page.click();
    } else if (event.key === "g") {
      going = true;
      setTimeout(function () { going = false; }, 1500);
    }
  });
})();
