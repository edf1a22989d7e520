// a picture that is dropped, chosen or taken from the samples goes to the server of this page and comes back restored
const served = JSON.parse(document.getElementById("served").textContent);
const [drop, chosen, network, entries] = ["drop", "file", "network", "entries"].map(id => document.getElementById(id));
const words = seconds => seconds < 90 ? Math.ceil(seconds) + " s" : Math.round(seconds / 60) + " min";

// the answer: a line of JSON for each thing there is to say; what follows the last ("done") are the two pictures
const received = async (response, say) => {
  const reader = response.body.getReader(), utf8 = new TextDecoder();
  let line = [], rest = [], done = null;
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    let from = 0;
    while (done === null && from < value.length) {
      const at = value.indexOf(10, from), to = at < 0 ? value.length : at;
      line.push(value.slice(from, to));
      from = to + 1;
      if (at < 0) continue;
      const told = JSON.parse(utf8.decode(await new Blob(line).arrayBuffer()));
      line = [];
      if (told.error) throw new Error(told.error);
      if (told.done) done = told; else say(told);
    }
    if (done !== null) rest.push(value.slice(from));
  }
  const both = new Blob(rest);
  if (done === null || both.size !== done.rainy + done.restored) throw new Error("the server went away before it was done");
  return { ...done, rainy: both.slice(0, done.rainy, "image/png"), restored: both.slice(done.rainy, both.size, "image/png") };
};

let line = Promise.resolve();  // one picture after the other, however many are dropped
const begin = (file, name, by) => {
  const entry = document.getElementById("entry").content.cloneNode(true).querySelector(".entry");
  const [title, status, bar, cancel, result] = ["h3", ".status", "progress", ".cancel", ".result"].map(s => entry.querySelector(s));
  const [download, again] = result.querySelectorAll(".download, .again");
  const stop = new AbortController();
  title.textContent = name;
  const tell = text => { if (status.textContent !== text) status.textContent = text; };
  tell("waiting");
  entries.prepend(entry);
  let began = null, expected = 0, tiles = null;
  const tick = setInterval(() => {
    if (began === null) return;
    const passed = (performance.now() - began) / 1000;
    const share = tiles ? tiles.tile / tiles.of : Math.min(.97, passed / expected);
    const left = tiles && tiles.tile ? passed * (tiles.of - tiles.tile) / tiles.tile : expected - passed;
    bar.value = share;
    tell("restoring" + (tiles ? `, tile ${tiles.tile} of ${tiles.of}` : "") + (left > 1 ? `, about ${words(left)} left` : passed > 1.5 * expected ? ", longer than expected" : ", nearly done"));
  }, 100);
  const say = told => {
    if (told.waiting) tell(`waiting: ${told.waiting} before this one`);
    if (told.seconds && began === null) { began = performance.now(); expected = told.seconds; }
    if (told.of > 1) tiles = told;
  };
  const end = () => { clearInterval(tick); bar.hidden = cancel.hidden = true; };
  cancel.addEventListener("click", () => stop.abort());
  const work = async () => {
    stop.signal.throwIfAborted();
    tell("sending");
    if (file.size > served.limit) throw new Error(`${name}: larger than ${served.limit >> 20} MiB`);
    const body = await file.arrayBuffer().catch(() => { throw new Error(`${name}: cannot be read (is it a folder?)`); });
    const asked = new URLSearchParams({ weights: by, name });
    const response = await fetch("restore?" + asked, { method: "POST", body, signal: stop.signal });
    if (!response.ok) throw new Error((await response.text()).trim());
    return received(response, say);
  };
  const mine = line.then(work);
  line = mine.catch(() => {});
  mine.then(made => {
    end();
    const seconds = made.seconds < 10 ? made.seconds.toFixed(1) : Math.round(made.seconds);
    tell([`${by}, ${made.width}×${made.height}, ${seconds} s`, ...made.remarks].join(" · "));
    const [rainy, restored] = [made.rainy, made.restored].map(b => URL.createObjectURL(b));
    const box = result.querySelector(".comparison"), image = box.querySelector("img");
    image.width = made.width;
    image.height = made.height;
    box.hidden = false;
    compare(box, [{ name, shown: [{ name: "before", data: rainy }, { name: by, data: restored }] }]);
    download.href = restored;
    download.download = name.replace(/\.[^.]*$/, "") + "-derained.png";
    const others = served.weights.filter(w => w !== by);
    again.hidden = !others.length;
    again.textContent = "Again by " + others[0];
    again.addEventListener("click", () => begin(file, name, others[0]));
    result.hidden = false;
  }, error => {
    end();
    const gone = error instanceof TypeError;  // what fetch says when nobody answers
    tell(stop.signal.aborted ? "cancelled" : gone ? "the server does not answer: start derain demo --serve again" : error.message);
    status.classList.toggle("failed", !stop.signal.aborted);
  });
};

const take = files => { for (const file of files) begin(file, file.name, network.value); };
chosen.addEventListener("change", () => { take(chosen.files); chosen.value = ""; });
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  window.addEventListener(kind, event => {  // anywhere on the page: else the browser would go to the picture
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") take(event.dataTransfer.files);
  });
}
window.addEventListener("paste", event => take(event.clipboardData.files));
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", async () => {
    const response = await fetch("samples/" + button.dataset.sample).catch(() => null);
    begin(response?.ok ? await response.blob() : new Blob([]), button.dataset.sample, network.value);
  });
}
