// Every view of the page, each when it comes near the screen.

(function () {
  const VIEWS = { linked: linkedView, clip: clipView, flow: flowView, transfer: transferView };
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  document.querySelectorAll("[data-view]").forEach((root) => {
    const begin = () => {
      const bar = VIEWS[root.dataset.view](root, read(root.dataset.from), root.hasAttribute("data-whole"));
      if (root.hasAttribute("data-plays") && bar && !still()) {
        bar.play(3);
        root.addEventListener("pointerdown", bar.stop, { once: true });
      }
    };
    let begun = false;
    const once = () => { if (!begun) { begun = true; begin(); } };
    whenNear(root, once, "300px");
    window.addEventListener("load", () => whenIdle(once));
    window.addEventListener("beforeprint", once);
  });
  if (document.querySelector(".lazy-figure")) drawFigures();
  copyTables();
})();
