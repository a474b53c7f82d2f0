// Before the first paint: the theme that was chosen here, and that there is JavaScript.
(function () {
  "use strict";
  var chosen = null;
  try { chosen = localStorage.getItem("ftsim-theme"); } catch (error) { chosen = null; }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("has-js");
})();
