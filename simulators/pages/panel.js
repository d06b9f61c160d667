// The bench's own panel, added below the product's page by the demo's proxy. The page knows nothing of it.
//
// It asks /bench/state every second and shows: the chain with a plug at each part that may be pulled, the count of
// records at every place along it with one big sign (equal, or catching up), the simulated phone, and the bench's clock.
// Pulling a plug is POST /bench/plugs/<name> {"out": true}. It follows the page's language by the `tram-language` event.

const POLL_MS = 1000;
const PARTS = ["board", "gateway", "link", "broker"]; // in the order in which a record passes them

const TEXTS = {
  vi: {
    title: "Bàn thử",
    intro: "Chỉ có trong bản chạy thử: rút bất kỳ phích nào, cắm lại, rồi xem số đếm trở lại bằng nhau.",
    clock: "Giờ bàn thử",
    rate: "nhanh gấp {rate} lần",
    silent: "Bàn thử không trả lời; dưới đây là lần nhận cuối.",
    board: "Bo mạch trạm", gateway: "Gateway", link: "Đường truyền", broker: "Broker", store: "Kho dữ liệu",
    pull: "Rút phích", replace: "Cắm lại", is_in: "đang cắm", is_out: "ĐÃ RÚT", failed: "Không rút/cắm được: {reason}",
    made: "Đã ghi", buffered: "Gateway giữ", stored: "Đã lưu", on_the_way: "Trên đường", duplicates: "Bản lặp đã bỏ",
    station: "Trạm", total: "Cộng",
    equal: "Số đếm bằng nhau", equal_detail: "{made} bản ghi đã ghi, {stored} đã lưu; mất {lost}, trùng {duplicated}",
    behind: "Đang đuổi kịp", behind_detail: "còn {rest} bản ghi trên đường",
    outage: "Đang rút: {parts}", outage_detail: "còn {rest} bản ghi chờ; không bản ghi nào bị bỏ",
    loss: "Có bản ghi bị mất hoặc trùng", loss_detail: "mất {lost}, trùng {duplicated}",
    phone: "Điện thoại", no_message: "Chưa có tin nhắn.", to: "đến {number}", counts: "Số bản ghi dọc đường đi",
    bar: "Bàn thử", messages: "{count} tin nhắn",
  },
  en: {
    title: "Test bench",
    intro: "Only in the demo: pull any plug, put it back, and see the counts become equal again.",
    clock: "Bench time",
    rate: "{rate} times as fast",
    silent: "The bench is not answering; below is what it said last.",
    board: "Station boards", gateway: "Gateway", link: "Link", broker: "Broker", store: "Store",
    pull: "Unplug", replace: "Plug in", is_in: "plugged in", is_out: "UNPLUGGED", failed: "The plug did not move: {reason}",
    made: "Made", buffered: "At the gateway", stored: "Stored", on_the_way: "On the way", duplicates: "Repeats dropped",
    station: "Station", total: "Total",
    equal: "The counts are equal", equal_detail: "{made} records made, {stored} stored; {lost} lost, {duplicated} duplicated",
    behind: "Catching up", behind_detail: "{rest} records on their way",
    outage: "Unplugged: {parts}", outage_detail: "{rest} records are waiting; none is thrown away",
    loss: "Records were lost or duplicated", loss_detail: "{lost} lost, {duplicated} duplicated",
    phone: "Phone", no_message: "No messages yet.", to: "to {number}", counts: "Records along the way",
    bar: "Test bench", messages: "messages: {count}",
  },
};

const LOCALES = { vi: "vi-VN", en: "en-GB" };
let state = null;
let silent = false;
let fault = "";
let places = { timezone: "Asia/Ho_Chi_Minh", names: new Map() };
const moving = new Set(); // plugs whose change was asked for and not yet answered

const language = () => (document.documentElement.lang in TEXTS ? document.documentElement.lang : "vi");
const t = (key, values = {}) => TEXTS[language()][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
const count = (value) => new Intl.NumberFormat(LOCALES[language()]).format(value);
const nameOf = (id) => places.names.get(id)?.[language()] ?? id;

function clockText(seconds, style) {
  const options = { timeStyle: style, timeZone: places.timezone, hourCycle: "h23" };
  return new Intl.DateTimeFormat(LOCALES[language()], options).format(seconds * 1000);
}

function node(tag, name, ...children) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.append(...children);
  return made;
}

// --- the parts of the panel: each is kept, and filled anew by draw() -------------------------------------------------

const parts = {
  title: node("h2"), intro: node("p", "bench-intro"), clock: node("p", "bench-clock"), silent: node("p", "bench-silent"),
  sign: node("div", "bench-sign"), chain: node("ol", "bench-chain"), fault: node("p", "bench-silent"),
  countsTitle: node("h3"), table: node("table", "bench-table"), phoneTitle: node("h3"), phone: node("div", "bench-phone"),
  bar: node("a", "bench-bar"),
};
const plugs = new Map(); // plug name -> {item, label, status, button}

function assemble() {
  const stylesheet = document.createElement("link");
  stylesheet.rel = "stylesheet";
  stylesheet.href = new URL("panel.css", import.meta.url).href;
  document.head.append(stylesheet);

  const section = node("section", "bench");
  section.id = "bench";
  parts.title.id = "bench-title";
  section.setAttribute("aria-labelledby", "bench-title");
  for (const part of [parts.silent, parts.fault]) part.setAttribute("role", "status");
  const scroll = node("div", "bench-scroll", parts.table);
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  const inner = node("div", "bench-inner",
    node("header", "bench-head", node("div", "", parts.title, parts.intro), parts.clock),
    parts.silent, parts.sign,
    node("div", "bench-columns",
      node("div", "", parts.chain, parts.fault, parts.countsTitle, scroll),
      node("div", "", parts.phoneTitle, parts.phone)));
  section.append(inner);
  document.body.append(section, parts.bar);
  parts.bar.href = "#bench";
  new IntersectionObserver(([entry]) => (parts.bar.hidden = entry.isIntersecting)).observe(section);
  return { scroll };
}

const { scroll } = assemble();

// --- drawing -----------------------------------------------------------------------------------------------------------

function draw() {
  parts.title.textContent = t("title");
  parts.intro.textContent = t("intro");
  parts.countsTitle.textContent = t("counts");
  scroll.setAttribute("aria-label", t("counts"));
  parts.phoneTitle.textContent = t("phone");
  parts.silent.textContent = silent ? t("silent") : "";
  parts.fault.textContent = fault;
  if (!state) return;
  parts.clock.replaceChildren(node("span", "", t("clock")), node("strong", "", clockText(state.now, "medium")),
    node("span", "", t("rate", { rate: count(state.rate) })));
  drawChain();
  drawSign();
  drawTable();
  drawPhone();
}

const pulled = () => Object.keys(state.plugs).filter((name) => state.plugs[name].out);
const kind = (plug) => plug.split(":")[0];

function plugTitle(plug) {
  const [part, station] = plug.split(":");
  return station ? nameOf(station) : partTitle(part);
}

const partTitle = (part) => (part === "broker" ? `${t("broker")}: ${state.broker}` : t(part));

function drawChain() {
  const wanted = PARTS.flatMap((part) => Object.keys(state.plugs).filter((plug) => kind(plug) === part));
  if (wanted.join() !== [...plugs.keys()].join()) buildChain(wanted);
  for (const heading of parts.chain.querySelectorAll("[data-part]")) heading.textContent = partTitle(heading.dataset.part);
  for (const [plug, shown] of plugs) {
    const out = state.plugs[plug].out;
    shown.item.classList.toggle("out", out);
    shown.label.textContent = kind(plug) === "board" ? plugTitle(plug) : "";
    shown.status.textContent = t(out ? "is_out" : "is_in");
    shown.button.textContent = t(out ? "replace" : "pull");
    shown.button.setAttribute("aria-pressed", String(out));
    shown.button.setAttribute("aria-label", `${t(out ? "replace" : "pull")}: ${plugTitle(plug)}`);
    shown.button.disabled = moving.has(plug);
  }
  for (const step of parts.chain.children) step.classList.toggle("cut", step.querySelector(".out") !== null);
  for (const figure of parts.chain.querySelectorAll("[data-total]")) {
    figure.textContent = `${t(figure.dataset.total)}: ${count(state.totals[figure.dataset.total])}`;
  }
}

const PLACE_TOTALS = { board: "made", gateway: "buffered", store: "stored" };

function buildChain(wanted) {
  plugs.clear();
  const steps = [...PARTS, "store"].map((part) => {
    const heading = node("h3");
    heading.dataset.part = part;
    const step = node("li", `bench-step bench-step-${part}`, heading);
    if (PLACE_TOTALS[part]) {
      const figure = node("p", "bench-total");
      figure.dataset.total = PLACE_TOTALS[part];
      step.append(figure);
    }
    step.append(...wanted.filter((plug) => kind(plug) === part).map(buildPlug));
    return step;
  });
  parts.chain.replaceChildren(...steps);
}

function buildPlug(plug) {
  const shown = { label: node("span", "bench-plug-name"), status: node("span", "bench-plug-state"), button: node("button") };
  shown.item = node("div", "bench-plug", node("p", "", shown.label, " ", shown.status), shown.button);
  shown.item.dataset.plug = plug;
  shown.button.type = "button";
  shown.button.addEventListener("click", () => move(plug, !state.plugs[plug].out));
  plugs.set(plug, shown);
  return shown.item;
}

function signState() {
  const { totals } = state;
  const out = pulled();
  // The newest records come first, so a hole in the store is a loss only once nothing is on its way any more.
  const settled = out.length === 0 && totals.buffered === 0 && totals.stored + totals.lost >= totals.made;
  if (totals.duplicated > 0 || (totals.lost > 0 && settled)) return "loss";
  if (out.length > 0) return "outage";
  return totals.equal ? "equal" : "behind";
}

function drawSign() {
  const { totals } = state;
  const which = signState();
  const values = { ...totals, rest: count(Math.max(0, totals.made - totals.stored)), parts: pulled().map(plugTitle).join(", ") };
  for (const name of ["made", "stored", "lost", "duplicated"]) values[name] = count(totals[name]);
  parts.sign.className = `bench-sign ${which}`;
  setText(parts.sign, [["strong", t(which, values)], ["span", t(`${which}_detail`, values)]]);
  parts.bar.className = `bench-bar ${which}`;
  setText(parts.bar, [["span", t("bar")], ["span", t(which, values)], ["span", t("messages", { count: state.inbox.length })]]);
}

// The elements are kept, so that a screen reader is told when the verdict changes, and not of every count.
function setText(container, rows) {
  if (container.children.length === 0) {
    container.append(...rows.map(([tag]) => node(tag)));
    container.querySelector("strong")?.setAttribute("role", "status");
  }
  rows.forEach(([, text], index) => {
    if (container.children[index].textContent !== text) container.children[index].textContent = text;
  });
}

const COLUMNS = ["made", "buffered", "stored", "on_the_way", "duplicates"];
const figures = (station) => COLUMNS.map((column) =>
  column === "on_the_way" ? Math.max(0, station.made - station.stored) : station[column]);

function drawTable() {
  const cells = (tag, texts) => texts.map((text) => node(tag, "", text));
  const head = node("tr", "", ...cells("th", [t("station"), ...COLUMNS.map((column) => t(column))]));
  const rows = state.stations.map((station) =>
    node("tr", "", node("th", "", nameOf(station.id)), ...cells("td", figures(station).map(count))));
  const sum = COLUMNS.map((_, column) => count(state.stations.reduce((total, station) => total + figures(station)[column], 0)));
  parts.table.replaceChildren(node("thead", "", head), node("tbody", "", ...rows),
    node("tfoot", "", node("tr", "", node("th", "", t("total")), ...cells("td", sum))));
  for (const cell of parts.table.querySelectorAll("th")) cell.scope = cell.closest("thead") ? "col" : "row";
}

let drawnInbox = "";

function drawPhone() {
  const inbox = JSON.stringify([state.inbox, language(), places.timezone]);
  if (inbox === drawnInbox) return;
  drawnInbox = inbox;
  const messages = state.inbox.map((sms) => node("li", "",
    node("p", "bench-sms", sms.text),
    node("p", "bench-sms-time", `${clockText(sms.received_at, "short")} · ${t("to", { number: sms.to })}`)));
  const list = node("ol", "bench-inbox", ...messages);
  list.tabIndex = 0;
  list.setAttribute("aria-label", t("phone"));
  list.setAttribute("aria-live", "polite");
  parts.phone.replaceChildren(node("div", "bench-speaker"), node("p", "bench-sender", "TRAM"),
    messages.length ? list : node("p", "bench-empty", t("no_message")));
  list.scrollTop = list.scrollHeight;
}

// --- asking and pulling ------------------------------------------------------------------------------------------------

async function json(path, options) {
  const response = await fetch(path, options);
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response.json();
}

async function move(plug, out) {
  moving.add(plug);
  fault = "";
  draw();
  try {
    const body = JSON.stringify({ out });
    await json(`/bench/plugs/${encodeURIComponent(plug)}`, { method: "POST", headers: { "content-type": "application/json" }, body });
  } catch (error) {
    fault = t("failed", { reason: error.message });
  }
  moving.delete(plug);
  await look();
}

async function look() {
  try {
    state = await json("/bench/state");
    silent = false;
  } catch {
    silent = true; // said on the panel; asked again in a second
  }
  draw();
}

// Station names and the time zone are the product's own; without an answer the ids serve.
async function learnPlaces() {
  if (places.names.size > 0) return;
  try {
    const { timezone, stations } = await json("/api/v1/overview");
    places = { timezone, names: new Map(stations.map((station) => [station.id, station.name])) };
  } catch {
    // The service may still be starting, or be pulled; asked again with the next look.
  }
}

async function follow() {
  await learnPlaces();
  await look();
  setTimeout(follow, POLL_MS);
}

document.addEventListener("tram-language", draw);
draw();
follow();
