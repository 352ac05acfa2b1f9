"use strict";
(function () {
  var root = document.documentElement;
  var button = document.getElementById("theme");
  var themes = ["system", "light", "dark"];

  function kept(value) {
    try {
      if (value === undefined) { return localStorage.getItem("autotrain-theme"); }
      localStorage.setItem("autotrain-theme", value);
    } catch (problem) { /* a page from a file may not be allowed to keep anything */ }
    return null;
  }

  function show(theme) {
    if (theme === "system") { root.removeAttribute("data-theme"); } else { root.setAttribute("data-theme", theme); }
    button.textContent = "Theme: " + theme;
    button.setAttribute("data-now", theme);
  }

  show(themes.indexOf(kept()) > 0 ? kept() : "system");
  button.hidden = false;
  button.addEventListener("click", function () {
    var next = themes[(themes.indexOf(button.getAttribute("data-now")) + 1) % themes.length];
    kept(next);
    show(next);
  });

  function select(node) {
    var range = document.createRange();
    range.selectNodeContents(node);
    var selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  }

  function copy(node) {
    if (navigator.clipboard && window.isSecureContext) { return navigator.clipboard.writeText(node.textContent); }
    select(node);
    return document.execCommand("copy") ? Promise.resolve() : Promise.reject(new Error("not allowed"));
  }

  document.querySelectorAll("[data-copy]").forEach(function (entry) {
    var node = document.getElementById(entry.getAttribute("data-copy"));
    entry.hidden = false;
    entry.addEventListener("click", function () {
      copy(node).then(function () { entry.textContent = "Copied"; }, function () {
        select(node);
        entry.textContent = "Selected: press Ctrl-C";
      });
      setTimeout(function () { entry.textContent = "Copy"; }, 3000);
    });
  });

  function reachable() {
    document.querySelectorAll(".scroll").forEach(function (entry) {
      if (entry.scrollWidth > entry.clientWidth || entry.scrollHeight > entry.clientHeight) {
        entry.tabIndex = 0;
        entry.setAttribute("role", "region");
        entry.setAttribute("aria-label", entry.getAttribute("data-name"));
      } else {
        entry.removeAttribute("tabindex");
        entry.removeAttribute("role");
        entry.removeAttribute("aria-label");
      }
    });
  }

  reachable();
  window.addEventListener("resize", reachable);
  document.querySelectorAll("details").forEach(function (entry) { entry.addEventListener("toggle", reachable); });

  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (entry) {
      entry.setAttribute("data-folded", "");
      entry.open = true;
    });
  });
  window.addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-folded]").forEach(function (entry) {
      entry.removeAttribute("data-folded");
      entry.open = false;
    });
  });
}());
