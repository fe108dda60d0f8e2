// Uploads images one per request, a few requests at a time, and shows their captions.

const MAX_UPLOADS = 3;
const MAX_RETRIES = 8;
const FORM_OVERHEAD_BYTES = 512; // all form fields and headers except the file
const maxBodyBytes = Number(document.documentElement.dataset.maxBodyBytes);
const hasAttention = document.documentElement.dataset.hasAttention === "true";
const byId = (id) => document.getElementById(id);
const cloneTemplate = (id) => byId(id).content.cloneNode(true).firstElementChild;

const queue = [];
let uploads = 0;
let total = 0;
let finished = 0;
let token = "";

// Queue

function addFiles(files) {
  const articles = [...files].map((file) => {
    const article = cloneTemplate("result-template");
    article.querySelector(".file-name").textContent = file.name;
    const image = article.querySelector("img");
    image.addEventListener("error", () => image.parentElement.remove()); // formats that browsers cannot show, e.g. TIFF
    image.src = URL.createObjectURL(file);
    queue.push({ file, article, nBest: byId("n-best").value });
    return article;
  });
  if (!articles.length) return;
  total += articles.length;
  byId("results").prepend(...articles);
  byId("clear").hidden = false;
  showProgress();
  startUploads();
}

function startUploads() {
  while (uploads < MAX_UPLOADS && queue.length && byId("token-form").hidden) {
    uploads += 1;
    upload(queue.shift()).finally(() => {
      uploads -= 1;
      startUploads();
    });
  }
}

async function upload(job) {
  if (job.file.size > maxBodyBytes - FORM_OVERHEAD_BYTES) {
    return showError(job, `The file exceeds ${(maxBodyBytes / 1e6).toFixed(0)} MB. Reduce the image.`);
  }
  for (let retry = 0; ; retry += 1) {
    let response;
    let result;
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      response = await fetch("/v1/captions", { method: "POST", body: createForm(job), headers });
      result = await response.json();
    } catch {
      return showError(job, "The server does not respond. Check that it is running.");
    }
    if (response.ok) return showCaptions(job, result.captions[0]);
    if (response.status === 401) return requestToken(job);
    if (response.status !== 503 || retry === MAX_RETRIES) {
      return showError(job, (result.captions ?? [result])[0].error);
    }
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

function createForm(job) {
  const form = new FormData();
  form.append("files", job.file, job.file.name);
  form.append("n_best", job.nBest);
  form.append("attention", hasAttention);
  return form;
}

function requestToken(job) {
  queue.unshift(job);
  byId("status").textContent = token ? "Wrong access token." : "This server requires an access token.";
  if (byId("token-form").hidden) {
    byId("token-form").hidden = false;
    byId("token").focus();
  }
}

// Results

function showError(job, message) {
  const pending = job.article.querySelector(".pending");
  pending.textContent = message;
  pending.className = "error";
  job.article.querySelector(".attention-text").remove();
  finish(job, `${job.file.name}: ${message}`);
}

function showCaptions(job, result) {
  const { article } = job;
  article.querySelector(".pending").remove();
  const image = article.querySelector("img");
  if (image) image.alt = result.caption;
  for (const caption of result.captions) {
    const item = cloneTemplate("caption-template");
    const words = item.querySelector(".words");
    if (caption.words && image) addWordButtons(words, caption, article);
    else words.textContent = caption.caption;
    const confidence = item.querySelector(".confidence");
    if (caption.confidence === undefined) confidence.remove();
    else confidence.textContent = `confidence ${Math.round(100 * caption.confidence)} %`;
    article.querySelector(".captions").append(item);
  }
  if (article.querySelector(".words button")) byId("hint").hidden = false;
  else article.querySelector(".attention-text").remove();
  if (navigator.clipboard) article.append(createCopyButton(result.caption));
  finish(job, result.caption);
}

function createCopyButton(text) {
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

function finish(job, message) {
  if (!job.article.isConnected) return; // cleared in the meantime
  finished += 1;
  showProgress(message);
}

function showProgress(message = "") {
  byId("status").textContent = `${finished} of ${total} done. ${message}`;
}

// Attention

function addWordButtons(container, caption, article) {
  container.setAttribute("role", "group");
  container.setAttribute("aria-label", `${caption.caption}. Use the arrow keys to move between words.`);
  const buttons = caption.words.map((word, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = word;
    button.tabIndex = index ? -1 : 0;
    const show = () => showAttention(article, button, caption.attention[index]);
    button.addEventListener("pointerenter", show);
    button.addEventListener("focus", show);
    button.addEventListener("click", show);
    button.addEventListener("blur", () => hideAttention(article));
    return button;
  });
  container.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && !container.contains(document.activeElement)) hideAttention(article);
  });
  container.addEventListener("keydown", (event) => {
    const current = buttons.indexOf(document.activeElement);
    const next = { ArrowRight: current + 1, ArrowLeft: current - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (current < 0 || !buttons[next]) return;
    event.preventDefault();
    buttons[current].tabIndex = -1;
    buttons[next].tabIndex = 0;
    buttons[next].focus();
  });
  container.append(...buttons);
}

function showAttention(article, button, weights) {
  hideAttention(article);
  button.classList.add("active");
  const side = Math.sqrt(weights.length);
  const mean = weights.reduce((sum, weight) => sum + weight, 0) / weights.length;
  const highest = Math.max(...weights);
  const canvas = article.querySelector("canvas");
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(side, side);
  weights.forEach((weight, cell) => {
    // Low weights darken the image, high weights add a glow. Nearly uniform weights give a dim image without a glow.
    const strength = weight / Math.max(highest, 4 * mean);
    const shade = 0.75 * (1 - strength);
    const glow = 0.2 * strength;
    const share = glow / (shade + glow);
    pixels.data.set([255 * share, 180 * share, 60 * share, 255 * (shade + glow)], 4 * cell);
  });
  context.putImageData(pixels, 0, 0); // CSS scales the canvas up, and the browser interpolates between the cells
  article.querySelector(".picture").classList.add("with-attention");
  const position = describePosition(weights, side, highest, mean);
  article.querySelector(".attention-text").textContent = `“${button.textContent}”: ${position}`;
}

function hideAttention(article) {
  article.querySelector(".picture").classList.remove("with-attention");
  article.querySelector("button.active")?.classList.remove("active");
  article.querySelector(".attention-text").textContent = "";
}

function describePosition(weights, side, highest, mean) {
  if (highest < 2 * mean) return "spread over the image";
  const cell = weights.indexOf(highest);
  const third = (index) => Math.floor((3 * (index + 0.5)) / side);
  const vertical = ["top", "", "bottom"][third(Math.floor(cell / side))];
  const horizontal = ["left", "", "right"][third(cell % side)];
  const position = [vertical, horizontal].filter(Boolean).join(" ");
  return position ? `mostly at the ${position}` : "mostly in the centre";
}

// Events of the page

byId("files").addEventListener("change", (event) => {
  addFiles(event.target.files);
  event.target.value = "";
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    addFiles(event.clipboardData.files);
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
  addFiles(event.dataTransfer.files);
});
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token-form").hidden = true;
  startUploads();
});
byId("clear").addEventListener("click", () => {
  for (const image of byId("results").querySelectorAll("img")) URL.revokeObjectURL(image.src);
  byId("results").replaceChildren();
  queue.length = total = finished = 0;
  byId("clear").hidden = byId("hint").hidden = true;
  byId("status").textContent = "";
  byId("files").focus();
});
