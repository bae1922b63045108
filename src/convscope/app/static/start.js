// The page as a whole: its head, its tabs, and the first photograph.
function showTab() {
  const panel = root.querySelector(".panel");
  for (const tab of root.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.dataset.tab === state.tab));
    tab.tabIndex = tab.dataset.tab === state.tab ? 0 : -1;
  }
  showTab.left?.();
  showTab.left = views[state.tab].leave;
  if (photo) clearOver();
  panel.setAttribute("aria-labelledby", `tab-${state.tab}`);
  panel.dataset.tab = state.tab;
  again(panel, () => {
    panel.replaceChildren();
    views[state.tab].show(panel);
  });
}

// Draws a panel anew; a control that was held by the keyboard is held again.
function again(panel, draw) {
  const held = document.activeElement, name = (one) => one.getAttribute("aria-label") || one.textContent;
  const words = panel.contains(held) && held.matches("input, select, button") && name(held);
  draw();
  if (words) [...panel.querySelectorAll(held.tagName)].find((one) => name(one) === words)?.focus();
}

function head() {
  return make("header.top", {},
    make("p.brand", {}, make("b", {}, "convscope"), make("span", {}, `a look into ${facts.name}`)),
    make("nav", { role: "tablist", "aria-label": "Tabs" }, ...Object.entries(views).map(([name, view]) =>
      make("button.tab", { type: "button", role: "tab", id: `tab-${name}`, "data-tab": name, "aria-controls": "panel", onclick: () => go({ tab: name }) }, view.title))));
}

async function start() {
  root.replaceChildren(head(), make("p.complaint", { role: "alert", hidden: true }),
    make("main", {}, stage(), make("section.panel", { id: "panel", role: "tabpanel" })));
  const warning = readAddress();
  acceptAnywhere();
  listeners.push(() => { if (!film.on) showTab(); }); // the camera goes on
  root.dataset.ready = "yes";
  await sample(SAMPLES.includes(state.photo) ? state.photo : "china");
  if (!photo) showTab();
  if (warning) complain(warning);
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest?.("input, select, textarea") || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.closest?.("[role=tablist]") && event.key.startsWith("Arrow")) return nextTab(event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : -1);
  views[state.tab].key?.(event);
});

function nextTab(step) {
  const names = Object.keys(views), place = (names.indexOf(state.tab) + step + names.length) % names.length;
  go({ tab: names[place] });
  root.querySelector(`#tab-${names[place]}`).focus();
}

start();
