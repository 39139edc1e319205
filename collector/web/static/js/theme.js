// Before anything is drawn: the theme that was chosen here, or the system's.
"use strict";

(() => {
  const names = ["auto", "dark", "light"];
  const glyphs = { auto: "◐", dark: "●", light: "○" };
  const chosen = () => {
    try { return names.find((name) => name === localStorage.getItem("theme")) ?? "auto"; } catch { return "auto"; }
  };
  const apply = (name) => { document.documentElement.dataset.theme = name; };
  apply(chosen());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      const name = document.documentElement.dataset.theme;
      button.textContent = `${glyphs[name]} ${name}`;
      button.setAttribute("aria-label", `theme: ${name}`);
    };
    button.addEventListener("click", () => {
      const name = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
      apply(name);
      try { localStorage.setItem("theme", name); } catch { /* it lasts as long as the page */ }
      show();
      document.dispatchEvent(new Event("themechange"));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      document.dispatchEvent(new Event("themechange"));
    });
    show();
  });
})();
