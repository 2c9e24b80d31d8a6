// The form: its link and badge are made by the server, and follow what is typed.

const PAUSE_MS = 200;
const form = document.getElementById("launch-form");
const provider = document.getElementById("provider");
const repository = document.getElementById("repository");
const ref = document.getElementById("ref");

document.documentElement.classList.add("scripted");

function describeProvider() {
  const chosen = provider.selectedOptions[0];
  if (!chosen) return;
  const { label, example, ref: defaultRef } = chosen.dataset;
  document.querySelector("label[for=repository]").textContent = label;
  document.querySelector("#repository-example span").textContent = example;
  document.getElementById("repository-example").hidden = !example;
  ref.disabled = !defaultRef;
  ref.placeholder = defaultRef;
}

let asked;
async function renewLink() {
  asked?.abort();
  asked = new AbortController();
  const query = new URLSearchParams(new FormData(form));
  try {
    const reply = await fetch(`/?${query}`, { signal: asked.signal, headers: { accept: "text/html" } });
    if (!reply.ok) return;
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const renewed = page.getElementById("share");
    if (renewed) document.getElementById("share").replaceChildren(...renewed.childNodes);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

let timer;
form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(renewLink, PAUSE_MS);
});
provider.addEventListener("change", describeProvider);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const source = document.getElementById(button.dataset.copies);
  source.select();
  try {
    await navigator.clipboard.writeText(source.value);
  } catch {
    document.execCommand("copy"); // without TLS there is no clipboard object
  }
  button.textContent = "Copied";
  document.getElementById("copied").textContent = "Copied to the clipboard.";
  setTimeout(() => {
    button.textContent = "Copy";
    document.getElementById("copied").textContent = "";
  }, 2000);
});

// A page that comes back from the browser's memory holds a used token: the same form would show the old launch.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

describeProvider();
if (repository.value) renewLink();
else repository.focus({ preventScroll: true });
