// Makes a page live: told by the server that there is something newer, it fetches the same page and replaces the
// region marked with data-live (and what is in elements elsewhere that are marked with data-news), keeping focus, typed
// text and what was unfolded. Without it, everything works by reload.

const region = document.querySelector("[data-live]");
const status = document.getElementById("live");
let shown = region?.dataset.shown; // the plan and rows that the reader has looked at; none while there is no report
let source = null;
let busy = false;
let again = false;
let retry = 0;
let pressed = 0; // until when a pointer is taken to be down: what is under it stays, else a click would be lost
let news = ""; // what became of the ticket while the page was open
const typed = new Map(); // by field; kept while there is no form, as during a rehearsal

function say(words) {
  const text = [news, words].filter(Boolean).join(" ");
  if (status && status.textContent !== text) status.textContent = text;
}

function fields() {
  return [...region.querySelectorAll("textarea[id], select[id], input[id]:not([type=hidden])")];
}

function foldable() {
  return [...region.querySelectorAll("details")];
}

function focusable() {
  return [...region.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")];
}

function nameOf(element) {
  const { id, tagName, textContent } = element;
  return id || `${tagName} ${element.getAttribute("href") || element.getAttribute("aria-label") || textContent}`;
}

function namesakes(name) {
  return focusable().filter((element) => nameOf(element) === name);
}

function remember() {
  const focused = document.activeElement;
  const name = region.contains(focused) ? nameOf(focused) : "";
  for (const field of fields()) typed.set(field.id, field.value);
  return {
    unfolded: new Map(foldable().map((details) => [details.querySelector("summary").textContent, details.open])),
    name,
    place: namesakes(name).indexOf(focused),
    selection: focused && "selectionStart" in focused ? [focused.selectionStart, focused.selectionEnd] : null,
  };
}

function restore(before) {
  const now = region.dataset.shown;
  const other = Boolean(shown && now) && shown !== now;
  shown ||= now;
  if (other) typed.delete("deleted-rows"); // a number typed to confirm one plan confirms no other
  for (const field of fields()) field.value = typed.get(field.id) ?? field.value;
  for (const details of foldable()) {
    details.open = before.unfolded.get(details.querySelector("summary").textContent) ?? details.open;
  }
  const focused = before.name && namesakes(before.name)[before.place];
  if (focused) {
    focused.focus({ preventScroll: true });
    if (before.selection && "setSelectionRange" in focused) focused.setSelectionRange(...before.selection);
  }
  if (other) hold();
}

// Another plan, or other rows, came under the reader's hands: a click that was meant for the old one must not count.
function hold() {
  const buttons = [...region.querySelectorAll(".decide button:enabled")]; // what the server has disabled stays so
  if (!buttons.length) return;
  const notice = document.createElement("p");
  const seen = document.createElement("button");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.append("What would change is not what it was when you opened this page. Look at it again. ", seen);
  seen.type = "button";
  seen.textContent = "I have looked at it";
  seen.addEventListener("click", () => {
    shown = region.dataset.shown; // not before: further news must not lift the hold
    notice.remove();
    for (const button of buttons) button.disabled = false;
  });
  for (const button of buttons) button.disabled = true;
  region.querySelector(".decide h2").after(notice);
}

async function refresh() {
  again = busy;
  if (busy) return;
  busy = true;
  clearTimeout(retry);
  try {
    const response = await fetch(region.dataset.page, { redirect: "manual" });
    // To the sign-in, ours or a proxy's. Who goes there by the page itself is led back to it.
    if (response.type === "opaqueredirect") return location.assign(region.dataset.page);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const fresh = page.querySelector("[data-live]");
    if (!fresh && response.status < 500) return location.reload(); // no such page any more, which says so itself
    if (!fresh) return refreshLater();
    while (Date.now() < pressed) await new Promise((resolve) => setTimeout(resolve, 100));
    const before = remember();
    const { state } = region.dataset;
    Object.assign(region.dataset, fresh.dataset);
    if (region.dataset.state !== state) news = `The ticket is ${region.dataset.state} now.`;
    region.replaceChildren(...fresh.childNodes);
    for (const part of document.querySelectorAll("[data-news]")) {
      const newest = page.getElementById(part.id);
      if (!part.isEqualNode(newest)) part.replaceChildren(...newest.childNodes); // a list of choices may be open
    }
    countTimes(); // by the clock of this machine, as until now
    document.title = page.title;
    restore(before);
    if (!source) say("");
    else if (source.readyState === EventSource.OPEN) say("Live");
  } catch {
    refreshLater();
  } finally {
    busy = false;
    if (again) refresh();
  }
}

function refreshLater() {
  say("Not up to date; trying again");
  clearTimeout(retry);
  retry = setTimeout(() => document.hidden || refresh(), 2000); // who comes back to a hidden page is told what is new
}

function connect() {
  source = new EventSource(region.dataset.live);
  source.addEventListener("open", () => say("Live"));
  source.addEventListener("error", lost);
  source.addEventListener("changed", (event) => {
    if (event.data !== region.dataset.version) refresh();
  });
  source.addEventListener("end", disconnect);
}

function lost() {
  say("Connection lost; trying again");
  if (source?.readyState !== EventSource.CLOSED) return;
  // A browser gives up once it is answered with an error: its session has ended, or a service is away.
  refresh();
  setTimeout(() => source?.readyState === EventSource.CLOSED && connect(), 5000);
}

function disconnect() {
  source?.close();
  source = null;
  say("");
}

function countTimes() {
  for (const time of document.querySelectorAll("time[data-age], time[data-left]")) {
    const passed = Date.now() - Date.parse(time.dateTime);
    const seconds = Math.max(0, Math.floor(("left" in time.dataset ? -passed : passed) / 1000));
    const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([size]) => seconds >= size) ?? [1, "s"];
    const text = `${Math.floor(seconds / size)} ${unit}`;
    if (time.textContent !== text) time.textContent = text;
  }
}

if (region) {
  connect();
  // A browser keeps six connections to a host; a tab that nobody looks at needs none.
  document.addEventListener("visibilitychange", () => {
    disconnect();
    if (!document.hidden) connect();
  });
  document.addEventListener("pointerdown", () => (pressed = Date.now() + 10_000)); // its end may be lost
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => (pressed = Date.now() + 300)); // a tap's click comes later than its end
  }
}
setInterval(countTimes, 5000);
