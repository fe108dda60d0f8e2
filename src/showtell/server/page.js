// The page: sends each image by itself, a few at a time, and shows what comes back.

const AT_A_TIME = 3;
const RETRIES = 8;
const { maxBody, attention } = document.documentElement.dataset;
const byId = (id) => document.getElementById(id);

const waiting = [];
let sending = 0;
let added = 0;
let finished = 0;
let token = "";

function add(files) {
  const shown = [...files].map((file) => {
    const article = byId("result").content.cloneNode(true).firstElementChild;
    article.querySelector(".name").textContent = file.name;
    const image = article.querySelector("img");
    image.addEventListener("error", () => image.parentElement.remove()); // such as TIFF, which browsers do not show
    image.src = URL.createObjectURL(file);
    waiting.push({ file, article, nBest: byId("n-best").value });
    return article;
  });
  if (!shown.length) return;
  added += shown.length;
  byId("results").prepend(...shown);
  byId("clear").hidden = false;
  tell();
  sendNext();
}

function sendNext() {
  while (sending < AT_A_TIME && waiting.length && byId("token-form").hidden) {
    const job = waiting.shift();
    sending += 1;
    send(job).finally(() => {
      sending -= 1;
      sendNext();
    });
  }
}

async function send(job) {
  // Half a kilobyte is more than the other fields of a request need.
  if (job.file.size > maxBody - 512) {
    return showError(job, `The file has more than ${(maxBody / 1e6).toFixed(0)} MB; make it smaller.`);
  }
  for (let retry = 0; ; retry += 1) {
    let response;
    let answer;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      response = await fetch("/v1/captions", { method: "POST", body: form(job), headers });
      answer = await response.json();
    } catch {
      return showError(job, "The server cannot be reached; is it running?");
    }
    if (response.ok) return showCaptions(job, answer.captions[0]);
    if (response.status === 401) return askForToken(job);
    if (response.status !== 503 || retry === RETRIES) {
      return showError(job, (answer.captions ?? [answer])[0].error);
    }
    await new Promise((done) => setTimeout(done, 1000 * (Number(response.headers.get("Retry-After")) || 1)));
  }
}

function form(job) {
  const fields = new FormData();
  fields.append("files", job.file, job.file.name);
  fields.append("n_best", job.nBest);
  fields.append("attention", attention);
  return fields;
}

function askForToken(job) {
  waiting.unshift(job);
  const asked = byId("token-form");
  byId("status").textContent = token ? "The server does not take this token." : "The server wants a token.";
  if (asked.hidden) {
    asked.hidden = false;
    byId("token").focus();
  }
}

function showError(job, line) {
  const place = job.article.querySelector(".waiting");
  place.textContent = line;
  place.className = "error";
  job.article.querySelector(".where").remove();
  finish(`${job.file.name}: ${line}`);
}

function showCaptions(job, answer) {
  const { article } = job;
  article.querySelector(".waiting").remove();
  const image = article.querySelector("img");
  if (image) image.alt = answer.caption;
  for (const found of answer.captions) {
    const item = byId("caption").content.cloneNode(true).firstElementChild;
    const words = item.querySelector(".words");
    if (found.words && image) showWords(words, found, article);
    else words.textContent = found.caption;
    const confidence = item.querySelector(".confidence");
    if (found.confidence === undefined) confidence.remove();
    else confidence.textContent = `confidence ${Math.round(100 * found.confidence)} %`;
    article.querySelector(".captions").append(item);
  }
  if (!article.querySelector(".words button")) article.querySelector(".where").remove();
  else byId("hint").hidden = false;
  if (navigator.clipboard) article.append(copyButton(answer.caption));
  finish(answer.caption);
}

function showWords(place, found, article) {
  place.setAttribute("role", "group");
  place.setAttribute("aria-label", `${found.caption}. Words; arrow keys go through them`);
  const buttons = found.words.map((word, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word;
    button.tabIndex = index ? -1 : 0;
    const light = () => showAttention(article, button, found.attention[index]);
    button.addEventListener("pointerenter", light);
    button.addEventListener("focus", light);
    button.addEventListener("click", light);
    button.addEventListener("blur", () => hideAttention(article));
    return button;
  });
  place.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && !place.contains(document.activeElement)) hideAttention(article);
  });
  place.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || !buttons[next]) return;
    event.preventDefault();
    buttons[at].tabIndex = -1;
    buttons[next].tabIndex = 0;
    buttons[next].focus();
  });
  place.append(...buttons);
}

function showAttention(article, button, weights) {
  hideAttention(article);
  button.classList.add("shown");
  const side = Math.sqrt(weights.length);
  const mean = weights.reduce((sum, weight) => sum + weight, 0) / weights.length;
  const highest = Math.max(...weights);
  const canvas = article.querySelector("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  weights.forEach((weight, cell) => {
    // Dark where the model did not look, a glow where it did; a word that looked everywhere lights everything dimly.
    const light = weight / Math.max(highest, 4 * mean);
    const shade = 0.75 * (1 - light);
    const glow = 0.2 * light;
    const share = glow / (shade + glow);
    pixels.data.set([255 * share, 180 * share, 60 * share, 255 * (shade + glow)], 4 * cell);
  });
  context.putImageData(pixels, 0, 0); // the browser smooths the few cells over the picture
  article.querySelector(".picture").classList.add("lit");
  article.querySelector(".where").textContent = `“${button.textContent}”: ${place(weights, side, highest, mean)}`;
}

function hideAttention(article) {
  article.querySelector(".picture").classList.remove("lit");
  article.querySelector(".shown")?.classList.remove("shown");
  article.querySelector(".where").textContent = "";
}

function place(weights, side, highest, mean) {
  if (highest < 2 * mean) return "nowhere in particular";
  const cell = weights.indexOf(highest);
  const third = (index) => Math.floor((3 * (index + 0.5)) / side);
  const vertical = ["top", "", "bottom"][third(Math.floor(cell / side))];
  const horizontal = ["left", "", "right"][third(cell % side)];
  return `most at the ${[vertical, horizontal].filter(Boolean).join(" ") || "middle"}`;
}

function copyButton(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "plain";
  button.textContent = "Copy caption";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    byId("status").textContent = "Copied.";
  });
  return button;
}

function finish(line) {
  finished += 1;
  tell(line);
}

function tell(line = "") {
  byId("status").textContent = `${finished} of ${added} done. ${line}`;
}

byId("files").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    add(event.clipboardData.files);
  }
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  add(event.dataTransfer.files);
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token-form").hidden = true;
  sendNext();
});
byId("clear").addEventListener("click", () => {
  for (const image of byId("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("results").replaceChildren();
  waiting.length = added = finished = 0;
  byId("clear").hidden = byId("hint").hidden = true;
  byId("status").textContent = "";
  byId("files").focus();
});
