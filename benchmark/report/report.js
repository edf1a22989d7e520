"use strict";
document.documentElement.classList.add("script");
document.getElementById("theme").addEventListener("change", event => {
  document.documentElement.style.colorScheme = event.target.value;
});
// a figure is saved as it is on paper: without the colours that it has where the page is dark
const light = address => {
  const [kind, data] = address.split(",");
  if (!kind.includes("svg")) return address;
  const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
  const drawing = new TextDecoder().decode(bytes).replace(/<style id="dark">.*?<\/style>/s, "");
  return kind + "," + btoa(Array.from(new TextEncoder().encode(drawing), b => String.fromCharCode(b)).join(""));
};
for (const link of document.querySelectorAll("a.of-image")) {
  link.addEventListener("click", () => { link.href = light(link.closest("figure").querySelector("img").src); });
}

// the scale at which a whole picture is shown: 1:1 where it fits
const scales = () => {
  for (const image of document.querySelectorAll(".framed img")) {
    const share = image.clientWidth / image.getAttribute("width");
    if (share) image.closest(".panel").querySelector(".scale").textContent = share > .995 ? "at 1:1" : `at 1:${(1 / share).toFixed(2)}`;
  }
};
scales();
addEventListener("resize", scales);
for (const one of document.querySelectorAll("details.more")) one.addEventListener("toggle", scales);

// contents: where one is; a list to open where the page is narrow
const contents = document.querySelector("nav details"), wide = matchMedia("(min-width: 1300px)");
const unfold = () => { contents.open = wide.matches; };
wide.addEventListener("change", unfold);
unfold();
contents.addEventListener("click", event => { if (event.target.closest("a") && !wide.matches) contents.open = false; });
const links = [...contents.querySelectorAll("a")];
const heads = links.map(link => document.getElementById(link.hash.slice(1)));
const whereabouts = () => {
  const above = heads.filter(head => head.getBoundingClientRect().top < innerHeight / 3);
  const end = scrollY > 0 && innerHeight + scrollY >= document.documentElement.scrollHeight - 2;
  const now = links[end ? links.length - 1 : Math.max(0, above.length - 1)];
  for (const link of links) link === now ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
  contents.querySelector(".here").textContent = now ? ": " + now.textContent : "";
};
addEventListener("scroll", whereabouts, { passive: true });
whereabouts();

// what is folded is printed too, but for the long lists of layers and runs
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.more:not([open]), details.notes:not([open])")];
  for (const one of opened) one.open = true;
});
addEventListener("afterprint", () => { for (const one of opened) one.open = false; });

// a choice: one of several tables of the same rows
for (const box of document.querySelectorAll(".choice")) {
  const tables = [...box.querySelectorAll(":scope > .chosen")];
  const select = document.createElement("select"), label = document.createElement("label"), tools = document.createElement("div");
  select.replaceChildren(...tables.map(one => new Option(one.dataset.name)));
  label.append(box.dataset.label + " ", select);
  tools.className = "tools";
  tools.append(label);
  box.prepend(tools);
  const choose = () => tables.forEach((one, i) => {
    one.hidden = i !== select.selectedIndex;
    if (one.tagName === "DETAILS") one.open = !one.hidden;
  });
  select.addEventListener("change", choose);
  choose();
}

// tables: a heading sorts, the best first; empty cells stay last, the input stays where it is
const tableOf = block => {
  const table = block.querySelector("table"), bodies = [...table.querySelectorAll("tbody.body")];
  const heads = [...table.tHead.querySelectorAll("th[data-first]")];
  const rows = bodies.flatMap(body => [...body.rows]);
  const place = head => Number(head.dataset.column || 0);
  rows.forEach((row, i) => { row.dataset.first = i; });
  const mark = column => {
    for (const row of rows) [...row.cells].forEach((c, i) => c.classList.toggle("by", i === column && i > 0));
  };
  const sort = (head, order) => {
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1, column = place(head);
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    for (const body of bodies) body.append(...[...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === "" || y === "") return (x === "") - (y === "") || a.dataset.first - b.dataset.first;
      const difference = Number(x) - Number(y);
      return sign * (Number.isNaN(difference) ? x.localeCompare(y) : difference) || a.dataset.first - b.dataset.first;
    }));
    mark(column);
    if (sorter) sorter.value = String(heads.indexOf(head));
  };
  for (const head of heads) {
    head.querySelector("button").addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      sort(head, before === null ? head.dataset.first : before === "ascending" ? "descending" : "ascending");
    });
  }
  let sorter = null;
  const sorted = heads.find(head => head.hasAttribute("aria-sort"));
  if (sorted) mark(place(sorted));

  const families = [...block.querySelectorAll("fieldset input")], find = block.querySelector(".find");
  const found = block.querySelector(".found");
  const filter = () => {
    const shown = new Set(families.filter(f => f.checked).map(f => f.value));
    const words = find ? find.value.trim().toLowerCase() : "";
    for (const row of rows) {
      const family = row.dataset.family !== undefined && families.length > 0 && !shown.has(row.dataset.family);
      row.hidden = family || !row.cells[0].textContent.toLowerCase().includes(words);
    }
    const left = rows.filter(row => !row.hidden).length;
    found.textContent = left < rows.length ? `${left} of ${rows.length} rows shown` : "";
  };
  for (const box of families) box.addEventListener("change", filter);
  if (find) find.addEventListener("input", filter);
  const printed = block.querySelector(".show-printed");
  if (printed) {
    const show = () => table.classList.toggle("no-printed", !printed.checked);
    printed.checked = innerWidth > 640;
    printed.addEventListener("change", show);
    show();
  }

  // columns: all where they fit the page, else those that say most; a narrow page has rows as cards
  const columns = block.querySelector(".tools select[data-preferred]");
  const region = block.querySelector(".fit");
  const words = head => (head.dataset.group && table.tHead.rows.length > 1 && head.parentElement.rowIndex === 1 ? head.dataset.group + ", " : "") + head.textContent.replace(/\s+/g, " ").trim();
  const label = () => {
    if (sorter) return;
    for (const row of [...rows, ...table.querySelectorAll("tbody.input tr:not(.set)")]) {
      for (const head of heads) if (place(head)) row.cells[place(head)].dataset.label = words(head);
    }
    sorter = document.createElement("select");
    sorter.replaceChildren(...heads.map((head, i) => new Option(words(head), String(i))));
    const by = heads.findIndex(head => head.hasAttribute("aria-sort"));
    sorter.value = by < 0 ? "0" : String(by);
    const around = document.createElement("label");
    around.className = "sorter";
    around.append("Sort by ", sorter);
    block.querySelector(".tools").prepend(around);
    sorter.addEventListener("change", () => { const head = heads[Number(sorter.value)]; sort(head, head.dataset.first); });
    const roles = { THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
    table.setAttribute("role", "table");
    for (const one of table.querySelectorAll("thead, tbody, tr, td, th")) {
      one.setAttribute("role", roles[one.tagName] || (one.scope.startsWith("row") ? "rowheader" : "columnheader"));
    }
  };
  const stack = on => {
    if (on) label();
    block.classList.toggle("stacked", on);
    if (sorter) sorter.parentElement.hidden = !on;
  };
  const show = group => {
    if (!columns) return;
    columns.value = group;
    block.classList.toggle("one-group", group !== "");
    for (const one of table.querySelectorAll("[data-group]")) one.hidden = group !== "" && one.dataset.group !== group;
  };
  const over = () => region.scrollWidth > region.clientWidth + 1;
  let chosen = false;
  const fit = () => {
    if (!region.clientWidth) return;
    region.classList.remove("whole", "tight");
    stack(false);
    const tight = () => region.classList.toggle("tight", over());
    if (!chosen) show("");
    tight();
    if (!chosen && columns && over()) {
      region.classList.remove("tight");
      show(columns.dataset.preferred);
      tight();
    }
    if (over() && innerWidth <= 800) stack(true);
    const scrolls = over();
    region.classList.toggle("whole", !scrolls);
    scrolls ? region.setAttribute("tabindex", "0") : region.removeAttribute("tabindex");
  };
  if (columns) columns.addEventListener("change", () => {
    chosen = true;
    show(columns.value);
    fit();
    const by = heads.find(head => head.hasAttribute("aria-sort"));
    const first = heads.find(head => head.dataset.group && !head.hidden);
    if (by && by.hidden && first) sort(first, first.dataset.first);
  });
  fit();
  addEventListener("resize", fit);
  for (let one = block.parentElement; one; one = one.parentElement) {
    if (one.tagName === "DETAILS") one.addEventListener("toggle", fit);
  }
};
document.querySelectorAll(".block").forEach(tableOf);

// pictures: any two of a set, over one another, side by side or subtracted; what is moved in one moves in all
const viewer = (box, sets) => {
  const find = what => box.querySelector(what);
  const set = find(".set"), which = find(".which"), left = find(".left"), right = find(".right");
  const line = find(".line"), gain = find(".gain"), withTarget = find(".with-target"), zoomed = find(".zoom output");
  const [main, second, target] = box.querySelectorAll(".pane");
  const under = find(".under"), over = find(".over"), canvas = find("canvas"), bar = find(".bar");
  const panes = [main, second, target];
  let zoom = 1, x = 0, y = 0, drawn = 0;
  const picture = () => sets[set.selectedIndex].pictures[which.selectedIndex];
  const mode = () => find("input[name=mode]:checked").value;
  const fill = (select, names, wanted) => {
    select.replaceChildren(...names.map(name => new Option(name, name, false, name === wanted)));
  };
  const place = () => {
    const { width, height } = picture();
    const free = (size, room) => Math.min(0, room - size * zoom);
    const wide = main.clientWidth, tall = main.clientHeight;
    x = width * zoom <= wide ? (wide - width * zoom) / 2 : Math.min(0, Math.max(free(width, wide), x));
    y = height * zoom <= tall ? (tall - height * zoom) / 2 : Math.min(0, Math.max(free(height, tall), y));
    for (const moved of box.querySelectorAll(".moved")) {
      moved.style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
      moved.classList.toggle("sharp", zoom >= 2);
    }
    zoomed.textContent = `${Math.round(100 * zoom)} %`;
    const at = Number(line.value);
    main.style.setProperty("--at", at + "%");
    line.nextElementSibling.textContent = `${Math.round(at)} %`;
    line.setAttribute("aria-valuetext", `${Math.round(at)} percent of the width show ${left.value}`);
    const cut = Math.min(width, Math.max(0, (at / 100 * wide - x) / zoom));
    over.style.clipPath = `inset(0 0 0 ${cut}px)`;
    gain.nextElementSibling.textContent = `× ${gain.value}`;
    gain.setAttribute("aria-valuetext", `differences ${gain.value} times as large`);
  };
  const scale = (to, at) => {
    const [cx, cy] = at || [main.clientWidth / 2, main.clientHeight / 2];
    const next = Math.min(16, Math.max(.1, to));
    x = cx - (cx - x) * next / zoom;
    y = cy - (cy - y) * next / zoom;
    zoom = next;
    place();
  };
  const fit = () => {
    const { width, height } = picture();
    scale(Math.min(main.clientWidth / width, main.clientHeight / height));
  };
  const put = (image, shown) => { image.src = shown.data; image.alt = shown.alt; };
  const words = shown => shown.name + (shown.caption ? "\n" + shown.caption : "");
  const subtract = async () => {
    const mine = ++drawn, [a, b] = [under, over];
    await Promise.all([a.decode(), b.decode()]);
    if (mine !== drawn) return;
    const { width, height } = picture();
    canvas.width = width;
    canvas.height = height;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    const pixels = image => { pen.drawImage(image, 0, 0); return pen.getImageData(0, 0, width, height); };
    const one = pixels(a), two = pixels(b).data, times = Number(gain.value);
    for (let i = 0; i < two.length; i += 4) {
      for (let c = i; c < i + 3; c++) one.data[c] = Math.abs(one.data[c] - two[c]) * times;
    }
    pen.putImageData(one, 0, 0);
  };
  const show = () => {
    const shown = picture().shown, [a, b] = [shown[left.selectedIndex], shown[right.selectedIndex]];
    const how = mode(), last = shown[shown.length - 1];
    put(under, a);
    put(over, b);
    put(second.querySelector("img"), b);
    put(target.querySelector("img"), last);
    over.hidden = bar.hidden = how !== "swipe";
    under.hidden = how === "difference";
    canvas.hidden = how !== "difference";
    second.hidden = how !== "side";
    target.hidden = !withTarget.checked;
    find(".swiping").hidden = how !== "swipe";
    find(".differing").hidden = how !== "difference";
    const [leftName, rightName] = main.querySelectorAll(".name");
    leftName.textContent = how === "difference" ? `|${a.name} − ${b.name}| × ${gain.value}` : words(a);
    rightName.textContent = words(b);
    rightName.hidden = how !== "swipe";
    second.querySelector(".name").textContent = words(b);
    target.querySelector(".name").textContent = words(last);
    canvas.setAttribute("aria-label", `Difference of ${a.name} and ${b.name}, ${gain.value} times: black where they are alike`);
    if (how === "difference") subtract();
    place();
  };
  const choose = () => {
    const names = picture().shown.map(s => s.name);
    const keep = (select, wanted) => names.includes(select.value) ? select.value : names.includes(wanted) ? wanted : names[Math.min(1, names.length - 1)];
    const [a, b] = [keep(left, names[0]), keep(right, "ESDNet")];
    fill(left, names, a);
    fill(right, names, b);
    show();
    fit();
    if (zoom > 1) scale(1);
  };
  const open = () => {
    fill(which, sets[set.selectedIndex].pictures.map(p => p.name));
    choose();
  };
  fill(set, sets.map(s => s.title));
  set.addEventListener("change", open);
  which.addEventListener("change", choose);
  for (const one of [left, right, gain, ...box.querySelectorAll("input[name=mode]")]) one.addEventListener("input", show);
  withTarget.addEventListener("change", () => { show(); place(); });
  line.addEventListener("input", place);
  const buttons = { in: () => scale(zoom * 1.5), out: () => scale(zoom / 1.5), own: () => scale(1), fit };
  for (const one of box.querySelectorAll("[data-zoom]")) one.addEventListener("click", buttons[one.dataset.zoom]);
  for (const pane of panes) {
    let held = null;
    pane.addEventListener("pointerdown", event => {
      held = { x: event.clientX - x, y: event.clientY - y, bar: event.target === bar };
      pane.setPointerCapture(event.pointerId);
    });
    pane.addEventListener("pointermove", event => {
      if (!held) return;
      if (held.bar) {
        const area = main.getBoundingClientRect();
        line.value = 100 * (event.clientX - area.left) / area.width;
      } else {
        x = event.clientX - held.x;
        y = event.clientY - held.y;
      }
      place();
    });
    for (const end of ["pointerup", "pointercancel"]) pane.addEventListener(end, () => { held = null; });
    pane.addEventListener("wheel", event => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      const area = pane.getBoundingClientRect();
      scale(zoom * Math.exp(-event.deltaY / 200), [event.clientX - area.left, event.clientY - area.top]);
    }, { passive: false });
    pane.addEventListener("keydown", event => {
      const step = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (step) { x += step[0]; y += step[1]; place(); }
      else if (event.key === "+") buttons.in();
      else if (event.key === "-") buttons.out();
      else if (event.key === "0") fit();
      else if (event.key === "1") buttons.own();
      else return;
      event.preventDefault();
    });
  }
  addEventListener("resize", place);
  open();
};
const sets = JSON.parse(document.getElementById("picture-data").textContent);
const seen = document.querySelector(".viewer");
if (seen && sets.length) viewer(seen, sets);
