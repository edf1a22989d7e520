// a comparison: two pictures of a set, one over the other, the line between them to pull
const compare = (box, set) => {
  const [which, left, right] = box.querySelectorAll("select");
  const [under, over] = box.querySelectorAll("img");
  const slider = box.querySelector(".slider"), range = box.querySelector("input");
  const [leftName, rightName] = box.querySelectorAll(".slider span");
  const place = () => {
    slider.style.setProperty("--at", range.value + "%");
    range.setAttribute("aria-valuetext", `${Math.round(range.value)} percent of the width show ${left.value}`);
  };
  const fill = (select, names, wanted) => {
    select.replaceChildren(...names.map(name => new Option(name, name, false, name === wanted)));
  };
  const put = (image, label, shown) => {
    image.src = shown.data;
    image.alt = shown.name;
    label.textContent = shown.name + (shown.caption ? ": " + shown.caption : "");
  };
  const show = () => {
    const shown = set[which.selectedIndex].shown;
    put(under, leftName, shown[left.selectedIndex]);
    put(over, rightName, shown[right.selectedIndex]);
    place();
  };
  const names = () => {
    const all = set[which.selectedIndex].shown.map(s => s.name);
    fill(left, all, all.includes(left.value) ? left.value : all[0]);
    fill(right, all, all.includes(right.value) ? right.value : all[1]);
    show();
  };
  fill(which, set.map(s => s.name), set[0].name);
  which.parentElement.hidden = set.length < 2;
  which.addEventListener("change", names);
  left.addEventListener("change", show);
  right.addEventListener("change", show);
  range.addEventListener("input", place);
  names();
};
// the pictures are kept once, in a script of data, and put where they are looked at
const kept = document.getElementById("picture-data");
if (kept) {
  const sets = JSON.parse(kept.textContent);
  for (const box of document.querySelectorAll(".comparison")) compare(box, sets[Number(box.dataset.set)]);
}
