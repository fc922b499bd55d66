// The page of `hybridhash serve`. The address says what is shown: row= or code= is the query, label=,
// path= and radius= narrow it, view=duplicates is the other view. So links, reloading and Back work.
"use strict";

const PAGE = 24; // images a request
const SAMPLES = 12;
const GROUPS = 20;
const SAVED_ANSWERS = 20; // addresses whose images come back at once
const TRIES = 5; // where the server is busy
const PREVIEW = 320; // pixels of an uploaded picture that are kept to show it again

const $ = (id) => document.getElementById(id);
const asked = () => Object.fromEntries(new URLSearchParams(location.search));

function viewOf(query) {
  if (query.view === "duplicates") return "duplicates";
  return query.row !== undefined || query.code !== undefined ? "search" : "start";
}

document.documentElement.dataset.view = viewOf(asked()); // before the first paint

// ---- Words --------------------------------------------------------------------------------------

const number = (value) => value.toLocaleString("en");
const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
const bits = (count) => counted(count, "bit");
const nameOf = (item) => item.name.slice(item.name.lastIndexOf("/") + 1) || item.name;

function megabytes(bytes) {
  if (bytes < 1e6) return `${Math.max(1, Math.round(bytes / 1e3))} kB`;
  return `${(bytes / 1e6).toFixed(1).replace(/\.0$/, "")} MB`;
}

/** With a capital letter and a full stop. */
const sentence = (text) => text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

/** Something that went wrong, as a sentence for people. */
class Problem extends Error {
  constructor(message, { title = "That did not work", wait = null, status = 0 } = {}) {
    super(message);
    Object.assign(this, { title, wait, status });
  }
}

// ---- Elements -----------------------------------------------------------------------------------

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name.startsWith("aria-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

const button = (text, action, className = "") => {
  const made = make("button", { type: "button", className }, text);
  made.addEventListener("click", action);
  return made;
};

function nothing(title, text, actions = [], wrong = false) {
  const box = make("div", { className: wrong ? "nothing wrong" : "nothing" }, make("h2", {}, title));
  box.append(make("p", {}, ...text));
  if (actions.length) box.append(make("div", { className: "actions" }, ...actions));
  return box;
}

/** Says something to those who listen; the same words twice are said twice. */
function say(text) {
  $("status").textContent = $("status").textContent === text ? `${text}\u00a0` : text;
}

function complain(problem, again = null) {
  const parts = [make("p", {}, problem.message)];
  if (again) parts.push(button("Try again", () => { settle(); again(); }));
  parts.push(button("Close", settle));
  $("problem").replaceChildren(...parts);
}

const settle = () => $("problem").replaceChildren();

// ---- The server ---------------------------------------------------------------------------------

const later = (seconds, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, seconds * 1000);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); });
});

const TITLES = { 404: "That is not there", 413: "That is too large", 415: "That is no image" };

async function once(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(
      "The server does not answer. See whether hybridhash serve still runs and the network is there.",
      { title: "The server does not answer" });
  }
  let content = null;
  try {
    content = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
  }
  if (response.ok && content) return content;
  const busy = response.status === 503;
  const after = Number(response.headers.get("Retry-After"));
  throw new Problem(
    sentence(content?.detail || `the server answered ${`${response.status} ${response.statusText}`.trim()}, without a reason`),
    { title: TITLES[response.status], status: response.status, wait: busy && after > 0 ? Math.min(after, 60) : null });
}

/** Asks until the server is no longer busy; `waiting` is told what it says meanwhile. */
async function ask(path, { signal, body, waiting = say, tries = TRIES } = {}) {
  for (let left = tries; ; left--) {
    try {
      return await once(path, { signal, body, method: body ? "POST" : "GET" });
    } catch (problem) {
      if (problem.wait == null || left <= 1) throw problem;
      waiting(`${problem.message} Trying again in ${counted(problem.wait, "second")}.`);
      await later(problem.wait, signal);
    }
  }
}

/** Fields of a search, without those that are not set. */
function form(fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value != null && value !== "") body.append(name, value);
  return body;
}

/** A word is looked for anywhere in a path; a pattern is taken as it is. */
const pattern = (text) => (!text || /[*?[]/.test(text) ? text : `*${text}*`);

const narrowed = (query) => ({ radius: query.radius, label: query.label, path: pattern(query.path) });

// ---- Where we are -------------------------------------------------------------------------------

let index = null; // what /v1/index said
let reading = null; // while it is asked
let shown = null; // { query, answer } of the view "search"
let running = new AbortController(); // what is being asked for the view
let picture = null; // { preview, name } of the query that was uploaded, kept in the history
const answers = new Map(); // by address

const sameQuery = (a, b) => a.row == b.row && a.code == b.code && a.view == b.view; // null or undefined

function address(query) {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value != null && value !== ""));
  return text.size ? `?${text}` : location.pathname;
}

/** Goes to another view or query; `replace` where Back should not come here again. */
function go(query, { replace = false, state = null } = {}) {
  const same = sameQuery(query, asked());
  const place = { ...history.state, scroll: scrollY, focus: document.activeElement?.dataset?.row ?? null };
  if (replace) history.replaceState(place, "", address(query));
  else {
    history.replaceState(place, "");
    history.pushState(same ? { picture } : state, "", address(query));
  }
  return show({ moved: !same });
}

/** Shows what the address says. `moved`: to another query; `back`: to one that was there before. */
async function show({ moved = false, back = false } = {}) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const query = asked();
  const view = viewOf(query);
  document.documentElement.dataset.view = view;
  const place = history.state ?? {}; // before scrolling changes it
  picture = place.picture ?? null;
  $(view === "duplicates" ? "to-duplicates" : "to-search").setAttribute("aria-current", "page");
  $(view === "duplicates" ? "to-search" : "to-duplicates").removeAttribute("aria-current");
  if (moved) {
    scrollTo(0, 0);
    document.querySelector(`#${view} h1`).focus({ preventScroll: true });
  }
  settle();
  try {
    const render = { start: showStart, search: showSearch, duplicates: showDuplicates }[view];
    await render(query, signal);
    if (back) comeBack(place);
  } catch (problem) {
    if (signal.aborted) return;
    if (!(problem instanceof Problem)) throw problem;
    showFailure(view, problem);
  }
}

function comeBack({ scroll = 0, focus = null }) {
  if (focus) visibleTiles().find(({ dataset }) => dataset.row === focus)?.focus({ preventScroll: true });
  scrollTo(0, scroll);
}

const remember = () => history.replaceState({ ...history.state, scroll: scrollY }, "");

function showFailure(view, problem) {
  const place = { start: "sample-grid", search: "grid", duplicates: "groups" }[view];
  const asked = problem.status >= 400 && problem.status < 500; // the same would be refused again
  const again = asked ? [] : [button("Try again", () => show(), "primary")];
  const box = nothing(problem.title, [problem.message], again, true);
  $(place).replaceChildren(place === "groups" ? box : make("li", { className: "nothing-place" }, box));
  $(place).classList.remove("waiting");
  if (view === "search") {
    title("The search failed");
    $("found").textContent = "\u00a0";
    setSavable(false);
    $("after").replaceChildren();
  }
  if (view === "duplicates") $("groups-found").textContent = "\u00a0";
  say(`${problem.title}. ${problem.message}`);
}

function title(text) {
  $("results-title").textContent = text;
  document.title = `${text} · hybridhash`;
}

// ---- The index ----------------------------------------------------------------------------------

/** What /v1/index says; asked for once, however many want it. */
async function readIndex() {
  if (index) return;
  reading ??= ask("v1/index").then(showIndex).finally(() => { reading = null; });
  await reading;
}

function showIndex(found) {
  index = found;
  $("about").textContent = `${counted(found.images, "image")} · codes of ${bits(found.bits)}`;
  $("model").textContent = found.model;
  $("accepted").textContent = `Up to ${megabytes(found.limits.upload_bytes)}; it is compared, not kept.`;
  const warnings = found.warnings.map((text) => make("p", { className: "notice" }, text));
  $("warnings").replaceChildren(...warnings);
  $("to-duplicates").hidden = !found.duplicates;
  fillLabels(found.labels);
}

function fillLabels(labels) {
  const named = labels.filter(({ label }) => label !== "" && label.isWellFormed()); // bytes that are not UTF-8 cannot be sent
  const many = labels.length >= 200; // there may be more than are listed, so they can be typed, too
  const text = ({ label, count }) => `${label} (${number(count)})`;
  $("label-field").hidden = named.length === 0;
  $("label").hidden = many;
  $("label-typed").hidden = !many;
  $("label-field").querySelector("label").htmlFor = many ? "label-typed" : "label";
  $("label").replaceChildren(new Option("any", ""), ...named.map((one) => new Option(text(one), one.label)));
  $("labels").replaceChildren(...named.map(({ label }) => new Option(label)));
}

const labelInput = () => ($("label").hidden ? $("label-typed") : $("label"));

// ---- Images -------------------------------------------------------------------------------------

function kindOf(name) {
  const dot = name.lastIndexOf(".");
  return dot > 0 && name.length - dot <= 6 ? name.slice(dot + 1) : "image";
}

const noPicture = (name) => make("span", { className: "kind", "aria-hidden": "true" }, kindOf(name));

/** An image of the index; its box has its place before the image is there. `whole`: never cropped. */
function picturePart(item, { source = null, whole = false } = {}) {
  if (!source && index?.thumbnails === false) return noPicture(item.name);
  const image = make("img", { alt: "", width: 160, height: 120, loading: "lazy", decoding: "async" });
  const shape = item.width / item.height;
  image.classList.toggle("fill", !whole && shape > 1 && shape < 1.7); // at most a quarter is cut off
  image.draggable = false;
  image.addEventListener("error", () => {
    const small = source && item.row !== undefined && index.thumbnails !== false; // browsers do not read all formats
    image.replaceWith(small ? picturePart(item, { whole }) : noPicture(item.name));
  });
  image.addEventListener("load", () => {
    image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) < 64);
  });
  image.src = source ?? `v1/items/${item.row}/thumbnail`;
  return image;
}

/** A result: a link to the search with it. `words` are those beside its label. */
function tile(item, query, words, { className = "distance", whole = false } = {}) {
  const link = make("a", { href: address({ ...narrowing(query), row: item.row }), "data-row": item.row, "data-go": "" },
    make("span", { className: "frame" }, picturePart(item, { whole })),
    make("span", { className: "words" },
      make("span", { className: "label" }, item.label || "\u00a0"), " ",
      make("span", { className }, words)),
    " ",
    make("span", { className: "name", title: item.name }, nameOf(item)));
  return make("li", { className: "tile" }, link);
}

const narrowing = ({ label, path, radius }) => ({ label, path, radius });

const blanks = (count) => Array.from({ length: count }, () =>
  make("li", { className: "tile blank", "aria-hidden": "true" },
    make("span", { className: "frame" }), make("span", { className: "words" }), make("span", { className: "name" })));

// ---- Start --------------------------------------------------------------------------------------

/** A code drawn at random; its nearest images are as good as any to start from. */
function anyCode(size) {
  const bytes = crypto.getRandomValues(new Uint8Array(Math.ceil(size / 8)));
  if (size % 8) bytes[bytes.length - 1] &= (0xff << (8 - (size % 8))) & 0xff; // what no bit has is zero
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function showStart(query, signal) {
  document.title = "hybridhash";
  if ($("sample-grid").querySelector(".tile:not(.blank)")) return; // they stay on the way back
  $("sample-grid").replaceChildren(...blanks(SAMPLES));
  await readIndex();
  await showSamples(signal);
}

async function showSamples(signal) {
  $("others").hidden = index.images <= SAMPLES;
  $("samples-title").hidden = index.images === 0;
  for (const one of document.querySelectorAll("#start .actions button")) one.disabled = index.images === 0;
  if (index.images === 0) {
    const command = make("code", {}, "hybridhash encode FOLDER --index=INDEX");
    const text = ["Add pictures to it with ", command, " and reload this page."];
    $("sample-grid").replaceChildren(make("li", { className: "nothing-place" }, nothing("The index is empty", text)));
    return;
  }
  const answer = await ask("v1/search", { signal, body: form({ code: anyCode(index.bits), k: SAMPLES }) });
  const mixed = answer.found.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b);
  $("sample-grid").replaceChildren(...mixed.map(([, item]) => {
    const made = tile(item, {}, "");
    made.querySelector(".distance").remove();
    return made;
  }));
}

// ---- Search -------------------------------------------------------------------------------------

async function showSearch(query, signal) {
  const key = address(query);
  const known = answers.get(key);
  if (!shown || !sameQuery(shown.query, query)) showQuery(query, signal);
  showFilters(query);
  if (known && index?.generation === known.generation) {
    shown = { query, answer: known };
    return showAnswer();
  }
  if (!shown || !sameQuery(shown.query, query) || !shown.answer) expect("Looking for images …");
  else $("grid").classList.add("waiting");
  if (!index) {
    await readIndex();
    showFilters(query); // now that labels and bits are known
  }
  const { row, code } = query;
  const body = form({ ...(row !== undefined ? { row } : { code }), k: PAGE, ...narrowed(query) });
  const answer = await ask("v1/search", { signal, body, waiting: wait });
  if (answer.generation !== index.generation) {
    index = null; // something was added or removed meanwhile
    await readIndex();
    signal.throwIfAborted();
    showFilters(query); // among the labels that there are now
  }
  keep(key, answer);
  shown = { query, answer };
  showAnswer();
}

function keep(key, answer) {
  answers.delete(key);
  answers.set(key, answer);
  if (answers.size > SAVED_ANSWERS) answers.delete(answers.keys().next().value);
}

/** Boxes where the images will be. */
function expect(text) {
  shown = null;
  title(text);
  $("found").textContent = "\u00a0";
  setSavable(false);
  $("grid").classList.remove("waiting");
  $("grid").replaceChildren(...blanks(PAGE));
  $("after").replaceChildren();
  say(text);
}

function wait(text) {
  $("found").textContent = text;
  say(text);
}

/** The picture and the facts of the query. */
async function showQuery(query, signal) {
  const uploaded = query.row === undefined;
  const name = uploaded ? picture?.name ?? "A code" : `Image ${query.row}`;
  const facts = uploaded && picture ? picture.facts : "\u00a0";
  $("query-original").hidden = true;
  setQuery(name, facts, uploaded ? picture?.preview : null);
  if (uploaded) {
    if (!picture) $("query-facts").textContent = "Its picture was not kept, only its code is in the address.";
    return;
  }
  try {
    const item = await ask(`v1/items/${encodeURIComponent(query.row)}`, { signal });
    await readIndex(); // the search may be reading it again
    const size = item.size ? `, ${megabytes(item.size)}` : "";
    setQuery(nameOf(item), `${item.label ? `${item.label} · ` : ""}${item.width} × ${item.height}${size}`, null, item);
    if (shown) title(`Like ${nameOf(item)}`); // the answer was faster
    $("query-original").hidden = !index.originals;
    $("query-original").firstElementChild.href = `v1/items/${item.row}/image`;
  } catch (problem) {
    if (!(problem instanceof Problem) && !signal.aborted) throw problem; // the search says it, too
  }
}

function setQuery(name, facts, preview, item = null) {
  $("query-name").textContent = name;
  $("query-name").title = item?.name ?? "";
  $("query-facts").textContent = facts;
  const parts = [];
  if (item) parts.push(picturePart(item, { source: index.originals ? `v1/items/${item.row}/image` : null, whole: true }));
  else if (preview) parts.push(picturePart({ name }, { source: preview }));
  else if (asked().row === undefined) parts.push(noPicture(name));
  $("query-frame").replaceChildren(...parts);
}

function showAnswer() {
  const { query, answer } = shown;
  const named = query.row !== undefined ? $("query-name").textContent : picture?.name ?? "a code";
  title(`Like ${named}`);
  drawHistogram();
  setSavable(answer.found.length > 0);
  $("grid").classList.remove("waiting");
  $("grid").replaceChildren(...answer.found.map((item) => resultTile(item, query)));
  if (!answer.found.length) $("grid").replaceChildren(make("li", { className: "nothing-place" }, noneFound()));
  showEnd();
  say(heard(answer));
}

function setSavable(can) {
  for (const one of $("save").children) one.disabled = !can;
}

const resultTile = (item, query) => (String(item.row) === query.row
  ? tile(item, query, "the query", { className: "distance self" })
  : tile(item, query, item.distance === 0 ? "same code" : bits(item.distance)));

function heard({ found, searched }) {
  if (!found.length) return `No image found of ${number(searched)}.`;
  const distance = found.at(-1).distance;
  return `${counted(found.length, "image")} shown of ${number(searched)}, nearest first, the last at ${bits(distance)}.`;
}

/** What stands above and below the images. */
function showEnd() {
  const { found, searched, within, radius, more, left_out: left } = shown.answer;
  const near = radius == null ? searched : within.slice(0, radius + 1).reduce((sum, count) => sum + count, 0);
  const range = radius == null ? "" : ` within ${bits(radius)}`;
  $("found").textContent = found.length
    ? `${number(found.length)} of ${counted(near, "image")}${range}, nearest first`
    : `None of ${counted(searched, "image")}${range}`;
  if (!found.length) return $("after").replaceChildren();
  const parts = [];
  if (left) {
    const last = found.at(-1).distance;
    parts.push(make("p", { id: "ties" }, `${counted(left, "more image is", "more images are")} at ${bits(last)}, too.`));
  }
  if (more) parts.push(button(`Show ${number(Math.min(PAGE, near - found.length, index.limits.k - found.length))} more`, showMore));
  else if (found.length < near) {
    parts.push(make("p", { className: "quiet" }, `Only the first ${number(index.limits.k)} can be shown. Narrow the distance or the filters to see others.`));
  } else parts.push(make("p", { className: "quiet" }, found.length === 1 ? "That is the only one." : "That is all of them."));
  return $("after").replaceChildren(...parts);
}

async function showMore(event) {
  const { query, answer } = shown;
  const pressed = event.currentTarget;
  const { signal } = running;
  pressed.disabled = true;
  try {
    const offset = answer.found.length;
    const k = Math.min(PAGE, index.limits.k - offset);
    const body = form({ code: answer.query.code, k, offset, ...narrowed(query) });
    const next = await ask("v1/search", { signal, body });
    if (next.generation !== answer.generation) return restart();
    shown.answer = { ...next, query: answer.query, offset: 0, found: [...answer.found, ...next.found] };
    keep(address(query), shown.answer);
    $("grid").append(...next.found.map((item) => resultTile(item, query)));
    showEnd();
    say(heard(shown.answer));
    $("grid").children[offset]?.querySelector("a").focus({ preventScroll: true });
  } catch (problem) {
    if (signal.aborted) return undefined;
    if (!(problem instanceof Problem)) throw problem;
    pressed.disabled = false;
    complain(problem, () => pressed.click());
  }
  return undefined;
}

/** Row numbers of another generation may be those of other images. */
function restart() {
  answers.clear();
  index = null;
  shown.answer = null;
  return show();
}

function noneFound() {
  const query = asked();
  const { radius, within } = shown.answer;
  const nearest = within.findIndex((count) => count > 0);
  if (nearest < 0) {
    return nothing("No image fits the filters", ["Another label or path may have some."],
      [button("Clear filters", () => go({ ...query, label: null, path: null }), "primary")]);
  }
  return nothing(`No image within ${bits(radius)}`, [`The nearest one is at ${bits(nearest)}.`],
    [button("Any distance", () => go({ ...query, radius: null }), "primary")]);
}

// ---- Radius and filters -------------------------------------------------------------------------

function showFilters(query) {
  const largest = index?.bits ?? 64;
  $("radius").max = largest;
  $("radius").value = query.radius ?? largest;
  const input = labelInput();
  if (input.tagName === "SELECT" && query.label && ![...input.options].some(({ value }) => value === query.label)) {
    input.add(new Option(query.label, query.label));
  }
  input.value = query.label ?? "";
  if ($("path").value.trim() !== (query.path ?? "")) $("path").value = query.path ?? "";
  const set = ["radius", "label", "path"].filter((name) => query[name] !== undefined);
  $("clear").hidden = set.length === 0;
  $("refined").textContent = set.length ? `· ${set.map((name) => (name === "radius" ? `${query.radius} bits` : query[name])).join(", ")}` : "";
  showRadius();
}

function showRadius() {
  const radius = Number($("radius").value);
  const any = radius >= Number($("radius").max);
  const within = shown?.answer?.within;
  const count = within?.slice(0, radius + 1).reduce((sum, one) => sum + one, 0);
  const images = within ? ` · ${counted(count, "image")}` : "";
  const text = any ? `any${images}` : `${bits(radius)}${images}`;
  $("radius-text").textContent = text;
  $("radius").setAttribute("aria-valuetext", any ? `any distance${images}` : `at most ${text}`);
  for (const bar of $("histogram").children) {
    bar.classList.toggle("in", any || Number(bar.dataset.distance) <= radius);
  }
}

/** How many images there are at each distance; roots, so that a few can be seen beside many. */
function drawHistogram() {
  const { within } = shown.answer;
  const most = Math.sqrt(Math.max(1, ...within));
  $("histogram").setAttribute("viewBox", `0 0 ${within.length - 1} 1`);
  const bars = within.flatMap((count, distance) => {
    if (!count) return [];
    const height = Math.max(0.05, Math.sqrt(count) / most);
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const place = { x: distance - 0.4, y: 1 - height, width: 0.8, height };
    for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value);
    bar.dataset.distance = distance;
    return [bar];
  });
  $("histogram").replaceChildren(...bars);
  showRadius();
}

function afterPause(action, milliseconds) {
  let timer = 0;
  return () => { clearTimeout(timer); timer = setTimeout(action, milliseconds); };
}

function setFilter(name, value, options) {
  const query = asked();
  if (viewOf(query) !== "search" || (query[name] ?? "") === String(value ?? "")) return;
  go({ ...query, [name]: value }, options);
}

/** On a narrow page the filters are folded away. */
const refine = (open) => $("refine").setAttribute("aria-expanded", open);

function listenToFilters() {
  const radius = () => {
    const value = $("radius").value;
    setFilter("radius", value === $("radius").max ? null : value, { replace: true });
  };
  const path = () => setFilter("path", $("path").value.trim(), { replace: true });
  const label = () => setFilter("label", labelInput().value);
  $("refine").addEventListener("click", () => refine($("refine").getAttribute("aria-expanded") !== "true"));
  $("radius").addEventListener("input", showRadius);
  $("radius").addEventListener("input", afterPause(radius, 120));
  $("path").addEventListener("input", afterPause(path, 300));
  $("label").addEventListener("change", label);
  $("label-typed").addEventListener("change", label);
  $("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    path();
    label();
  });
  $("clear").addEventListener("click", () => {
    const { row, code } = asked();
    go({ row, code });
    $("radius").focus({ preventScroll: true });
  });
}

// ---- Near-duplicates ----------------------------------------------------------------------------

async function showDuplicates(query, signal) {
  document.title = "Near-duplicates · hybridhash";
  $("groups").replaceChildren(make("ul", { className: "grid", "aria-hidden": "true" }, ...blanks(8)));
  $("groups-after").replaceChildren();
  $("groups-found").textContent = "Looking for images that are nearly the same …";
  await readIndex();
  const waiting = (text) => {
    if ($("groups-found").textContent !== text) say(text);
    $("groups-found").textContent = text;
  };
  await addGroups(0, signal, waiting);
}

async function addGroups(offset, signal, waiting = say) {
  // They are made once a generation, which takes its time.
  const found = await ask(`v1/duplicates?offset=${offset}&limit=${GROUPS}`, { signal, waiting, tries: Infinity });
  const made = found.groups.map((group) => groupPart(group));
  if (offset === 0) $("groups").replaceChildren(...made);
  else $("groups").append(...made);
  if (offset) made[0]?.querySelector("a").focus({ preventScroll: true });
  const end = offset + found.groups.length;
  const text = found.total ? `${number(end)} of ${counted(found.total, "group")} of images that are nearly the same` : "\u00a0";
  $("groups-found").textContent = text;
  say(found.total ? text : "There are no near-duplicates.");
  if (!found.total) $("groups").replaceChildren(nothing("No near-duplicates", ["Every image of the index is one of its kind."]));
  const more = button(`Show ${number(Math.min(GROUPS, found.total - end))} more`, () => {
    more.disabled = true;
    addGroups(end, running.signal).catch((problem) => {
      if (running.signal.aborted) return;
      more.disabled = false;
      complain(problem, () => more.click());
    });
  });
  $("groups-after").replaceChildren(...(end < found.total && made.length ? [more] : []));
}

function groupPart({ images }) {
  const tiles = images.map((item) => {
    const alike = item.relation ? ` · ${Math.round(item.similarity * 100)} % alike` : "";
    const made = tile({ ...item, label: item.relation || "first of them" }, {}, "", { whole: true });
    made.querySelector(".label").title = item.relation;
    made.querySelector("a").append(" ", make("span", { className: "name" }, `${item.width} × ${item.height}${alike}`));
    return made;
  });
  return make("section", { className: "group" },
    make("h2", {}, `${counted(images.length, "image")}: ${nameOf(images[0])}`),
    make("ul", { className: "grid" }, ...tiles));
}

// ---- A picture of one's own ---------------------------------------------------------------------

/** Searches with a file; its code comes back, and is the query from then on. */
async function searchWith(file, name = file.name) {
  settle();
  running.abort();
  running = new AbortController();
  const { signal } = running;
  try {
    await readIndex();
    check(file, name);
    const kept = await previewOf(file, name);
    signal.throwIfAborted();
    document.documentElement.dataset.view = "search";
    picture = kept;
    const query = narrowing(asked());
    setQuery(kept.name, kept.facts, kept.preview);
    $("query-original").hidden = true;
    showFilters(query);
    expect(`Looking for images like ${kept.name} …`);
    scrollTo(0, 0);
    const body = form({ k: PAGE, ...narrowed(query) });
    body.append("image", file, name);
    const answer = await ask("v1/search", { signal, body, waiting: wait });
    const found = { code: answer.query.code, ...query };
    keep(address(found), answer);
    if (index.generation !== answer.generation) index = null;
    await readIndex();
    signal.throwIfAborted();
    go(found, { state: { picture: kept } });
  } catch (problem) {
    if (signal.aborted) return;
    if (!(problem instanceof Problem)) throw problem;
    await show(); // what was there before
    complain(problem, problem.status === 0 || problem.status >= 500 ? () => searchWith(file, name) : null);
  }
}

/** Refuses what the server would, before it is sent. */
function check(file, name) {
  const largest = index.limits.upload_bytes;
  if (!index.images) throw new Problem("The index is empty, so there is nothing to find yet.", { status: 409 });
  if (file.type && !file.type.startsWith("image/")) {
    throw new Problem(`${name} is no picture but ${file.type}. Choose a JPEG, PNG, WebP or another image.`, { status: 415 });
  }
  if (file.size === 0) throw new Problem(`${name} is empty. Choose another picture.`, { status: 400 });
  if (file.size > largest) {
    throw new Problem(`${name} has ${megabytes(file.size)}; up to ${megabytes(largest)} are taken. Make it smaller and try again.`, { status: 413 });
  }
}

/** What is shown of a file, small enough to be kept in the history. */
async function previewOf(file, name) {
  const told = { name, facts: megabytes(file.size), preview: null };
  try {
    const bitmap = await createImageBitmap(file);
    const scale = Math.min(1, PREVIEW / Math.max(bitmap.width, bitmap.height));
    const canvas = make("canvas", { width: Math.ceil(bitmap.width * scale), height: Math.ceil(bitmap.height * scale) });
    const context = canvas.getContext("2d");
    context.fillStyle = "white"; // what is transparent is searched with as white
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    told.facts = `${bitmap.width} × ${bitmap.height}, ${told.facts}`;
    told.preview = canvas.toDataURL("image/webp", 0.85);
    bitmap.close();
  } catch {
    // The server reads formats that browsers do not, such as TIFF.
  }
  return told;
}

function listenToFiles() {
  let inside = 0; // a drag within the page is none of ours
  const ours = (event) => !inside && [...event.dataTransfer.types].some((type) => type === "Files" || type === "text/uri-list");
  const mark = (on) => document.documentElement.classList.toggle("dragging", on);
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) searchWith(file);
    $("file").value = ""; // so that the same file can be chosen again
  });
  addEventListener("dragstart", () => { inside = 1; });
  addEventListener("dragend", () => { inside = 0; });
  addEventListener("dragover", (event) => {
    if (!ours(event)) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) mark(false); });
  addEventListener("drop", (event) => {
    mark(false);
    if (!ours(event)) return;
    event.preventDefault();
    take(event.dataTransfer.files, "What was dropped is no file. Save the picture first, then drop the file.");
  });
  addEventListener("paste", (event) => {
    const typing = event.target.closest?.("input");
    const { files } = event.clipboardData;
    if (typing && !files.length) return;
    take(files, "There is no picture in the clipboard. Copy one, then paste it here.");
  });
}

function take(files, otherwise) {
  if (!files.length) return complain(new Problem(otherwise));
  const chosen = [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];
  return searchWith(chosen, chosen.name || "pasted picture");
}

// ---- Camera -------------------------------------------------------------------------------------

const REFUSED = {
  NotAllowedError: "The camera was not allowed. Allow it in the browser's settings for this page, or choose a file.",
  NotFoundError: "There is no camera here. Choose a file instead.",
  NotReadableError: "Another program uses the camera. Close it and try again.",
};

let stream = null;

async function openCamera() {
  settle();
  if (!navigator.mediaDevices?.getUserMedia) {
    complain(new Problem("The browser gives the camera only to pages over https or on localhost. Choose a file instead."));
    return;
  }
  $("shoot").disabled = true;
  $("camera").showModal();
  try {
    const video = { facingMode: "environment", width: { ideal: 1280 }, height: { ideal: 960 } };
    const opened = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    if (!$("camera").open) return stop(opened); // closed meanwhile
    stream = opened;
    $("video").srcObject = stream;
    await $("video").play();
    $("shoot").disabled = false;
    $("shoot").focus();
  } catch (error) {
    if (!$("camera").open) return undefined;
    $("camera").close();
    complain(new Problem(REFUSED[error.name] ?? `The camera did not start (${error.name}). Choose a file instead.`));
  }
  return undefined;
}

const stop = (of) => of?.getTracks().forEach((track) => track.stop());

function shoot() {
  const video = $("video");
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    $("camera").close();
    searchWith(new File([blob], "camera picture", { type: "image/jpeg" }));
  }, "image/jpeg", 0.92);
}

function listenToCamera() {
  $("shoot").addEventListener("click", shoot);
  $("camera-close").addEventListener("click", () => $("camera").close());
  $("camera").addEventListener("close", () => {
    stop(stream);
    stream = $("video").srcObject = null;
  });
}

// ---- Saving what is shown -----------------------------------------------------------------------

const COLUMNS = ["query", "rank", "distance", "path", "label", "row", "width", "height"];

function asCsv({ found }, name) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const lines = found.map((item) => COLUMNS.map((key) => cell(key === "query" ? name : item[key])).join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\n");
}

/** Bytes of names that are not UTF-8 come as lone surrogates, and leave as they were. */
const exact = (text) => text.split(/([\udc80-\udcff])/u)
  .map((part, place) => (place % 2 ? Uint8Array.of(part.charCodeAt(0) - 0xdc00) : part));

function save(kind) {
  const { query, answer } = shown;
  const name = query.row === undefined ? picture?.name ?? answer.query.code : $("query-name").title;
  const text = kind === "csv" ? asCsv(answer, name) : `${JSON.stringify({ ...answer, name }, null, 2)}\n`;
  const link = make("a", { download: `found.${kind}` });
  link.href = URL.createObjectURL(new Blob(exact(text), { type: kind === "csv" ? "text/csv" : "application/json" }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`${counted(answer.found.length, "image")} saved as found.${kind}.`);
}

// ---- Keys ---------------------------------------------------------------------------------------

const visibleTiles = () => [...document.querySelectorAll("main a[data-row]")].filter((one) => one.offsetParent);

/** The image one step from here, as they lie on the page. */
function neighbour(from, key, all) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
  if (step) return all[all.indexOf(from) + step];
  if (key === "Home") return all[0];
  if (key === "End") return all.at(-1);
  const here = from.getBoundingClientRect();
  const down = key === "ArrowDown";
  const beyond = all.map((one) => [one, one.getBoundingClientRect()])
    .filter(([, box]) => (down ? box.top > here.top + 5 : box.top < here.top - 5));
  if (!beyond.length) return undefined;
  const tops = beyond.map(([, box]) => box.top);
  const line = down ? Math.min(...tops) : Math.max(...tops);
  const [nearest] = beyond.filter(([, box]) => Math.abs(box.top - line) < 5)
    .sort(([, a], [, b]) => Math.abs(a.left - here.left) - Math.abs(b.left - here.left));
  return nearest[0];
}

function move(event) {
  const here = document.activeElement;
  const all = visibleTiles();
  const from = here.closest?.("a[data-row]");
  const fresh = !from && ["ArrowDown", "ArrowRight"].includes(event.key) && (here === document.body || here.matches("h1, main"));
  const target = from ? neighbour(from, event.key, all) : fresh ? all[0] : undefined;
  if (!target && !from) return;
  event.preventDefault();
  target?.focus();
  target?.scrollIntoView({ block: "nearest" });
}

function escape() {
  if ($("camera").open) return; // the dialog closes itself
  if ($("problem").childElementCount) return settle();
  if (document.activeElement?.matches("input[type=search]")) return $("main").focus({ preventScroll: true });
  if (document.documentElement.dataset.view !== "start") return go({});
  return undefined;
}

function onKey(event) {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || $("camera").open) return;
  if (event.key === "Escape") escape();
  else if (typing) return;
  else if (event.key === "/") {
    event.preventDefault();
    if (document.documentElement.dataset.view === "search") {
      refine(true);
      $("path").focus();
      $("path").select();
    } else document.querySelector("#start [data-choose]").focus();
  } else if (/^(Arrow|Home$|End$)/.test(event.key)) move(event);
}

function onClick(event) {
  const plain = event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;
  if (event.target.closest(".skip")) {
    event.preventDefault();
    (visibleTiles()[0] ?? $("main")).focus();
  }
  const link = event.target.closest("a[data-go]");
  if (link && plain) {
    event.preventDefault();
    const query = Object.fromEntries(new URL(link.href).searchParams);
    go(query);
  }
  if (event.target.closest("[data-choose]")) $("file").click();
  if (event.target.closest("[data-camera]")) openCamera();
  const format = event.target.closest("[data-save]")?.dataset.save;
  if (format) save(format);
}

// ---- Begin --------------------------------------------------------------------------------------

addEventListener("DOMContentLoaded", () => {
  history.scrollRestoration = "manual";
  listenToFilters();
  listenToFiles();
  listenToCamera();
  addEventListener("click", onClick);
  addEventListener("keydown", onKey);
  addEventListener("scroll", afterPause(remember, 150));
  addEventListener("popstate", () => show({ back: true }));
  $("others").addEventListener("click", () => showSamples(running.signal).catch((problem) => {
    if (!(problem instanceof Problem)) throw problem;
    complain(problem);
  }));
  show({ back: history.state !== null });
  document.documentElement.classList.add("ready"); // boxes hold the place of what comes
});
