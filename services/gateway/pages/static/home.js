// The form: the server renders its link and badge, again after each change.

const PAUSE_MS = 200;
const form = document.getElementById("launch-form");
const provider = document.getElementById("provider");
const repository = document.getElementById("repository");
const ref = document.getElementById("ref");

document.documentElement.classList.add("scripted");

function describeProvider() {
  const option = provider.selectedOptions[0];
  if (!option) return;
  const { label, example, ref: defaultRef } = option.dataset;
  document.querySelector("label[for=repository]").textContent = label;
  document.querySelector("#repository-example span").textContent = example;
  document.getElementById("repository-example").hidden = !example;
  ref.disabled = !defaultRef;
  ref.placeholder = defaultRef;
}

let request;
async function updateLink() {
  request?.abort();
  request = new AbortController();

  const query = new URLSearchParams(new FormData(form));
  try {
    const reply = await fetch(`/?${query}`, { signal: request.signal, headers: { accept: "text/html" } });
    if (!reply.ok) return;
    const page = new DOMParser().parseFromString(await reply.text(), "text/html");
    const newShare = page.getElementById("share");
    if (newShare) document.getElementById("share").replaceChildren(...newShare.childNodes);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
  }
}

let timer;
form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(updateLink, PAUSE_MS);
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
if (repository.value) updateLink();
else repository.focus({ preventScroll: true });
