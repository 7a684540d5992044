// Where a page, a file and a widget begin.

function startExplorer(root, transport) {
  const app = new Explorer(root, transport);
  app.begin().catch((error) => {
    root.replaceChildren(h("p", { class: "dpx-error", role: "alert" }, `The explorer could not start: ${error.message}`));
    throw error;
  });
  return app;
}
