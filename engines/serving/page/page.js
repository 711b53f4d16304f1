"use strict";
// A conversation with the server that this page came from. Everything a model or a person wrote is set as text, never
// as markup, so that no answer can bring a script.

const $ = (id) => document.getElementById(id);
const messages = []; // what has been said, in the API's form
let pictures = []; // of the next question: {name, url}
let model = null;
let running = null; // the AbortController of the answer that is coming

function headers() {
  const key = $("key").value.trim();
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

async function errorOf(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered with status ${response.status}`;
  }
}

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function connect() {
  try {
    const response = await fetch("v1/models", { headers: headers() });
    if (response.status === 401) {
      $("key-row").hidden = false;
      $("model").textContent = "needs an API key";
      if ($("key").value) problem(await errorOf(response));
      return false;
    }
    if (!response.ok) throw new Error(await errorOf(response));
    model = (await response.json()).data[0].id;
    sessionStorage.setItem("key", $("key").value);
    $("model").textContent = model;
    return true;
  } catch (error) {
    $("model").textContent = "not connected";
    problem(`The server cannot be reached: ${error.message}`);
    return false;
  }
}

// Pictures

function addFiles(files) {
  for (const file of files) {
    if (!file.type.startsWith("image/")) {
      problem(`${file.name} is not a picture.`);
      continue;
    }
    const reader = new FileReader();
    reader.onload = () => {
      pictures.push({ name: file.name || "pasted picture", url: reader.result });
      showPictures();
      $("question").focus();
    };
    reader.onerror = () => problem(`${file.name} cannot be read.`);
    reader.readAsDataURL(file);
  }
}

function showPictures() {
  $("pictures").replaceChildren(
    ...pictures.map((picture) => {
      const item = element("li");
      const image = element("img");
      image.src = picture.url;
      image.alt = picture.name;
      const remove = element("button", "", "×");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${picture.name}`);
      remove.onclick = () => {
        pictures = pictures.filter((other) => other !== picture);
        showPictures();
        $("question").focus();
      };
      item.append(image, remove);
      return item;
    }),
  );
}

const draggedFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
addEventListener("dragover", (event) => {
  if (!draggedFiles(event)) return;
  event.preventDefault();
  $("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").hidden = true;
});
addEventListener("drop", (event) => {
  $("drop").hidden = true;
  if (!draggedFiles(event)) return;
  event.preventDefault();
  problem("");
  addFiles(event.dataTransfer.files);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) {
    event.preventDefault();
    addFiles(event.clipboardData.files);
  }
});
$("file").onchange = (event) => {
  problem("");
  addFiles(event.target.files);
  event.target.value = ""; // the same file may be chosen again
};

// Questions and answers

function showQuestion(text) {
  const asked = element("div", "asked");
  if (pictures.length) {
    const shown = element("div", "shown");
    for (const picture of pictures) {
      const image = element("img");
      image.src = picture.url;
      image.alt = picture.name;
      shown.append(image);
    }
    asked.append(shown);
  }
  asked.append(element("p", "words", text));
  $("log").append(asked);
  return asked;
}

// The server's events, each as its document.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value;
    const lines = held.split("\n\n");
    held = lines.pop();
    for (const line of lines) {
      const data = line.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function measured(timings, usage, finish) {
  if (!timings) return finish;
  const first = Math.round(timings.queue_ms + timings.encode_ms + timings.prefill_ms);
  const parts = [`first word after ${first.toLocaleString()} ms`];
  if (timings.decode_tokens_per_s) parts.push(`${Math.round(timings.decode_tokens_per_s)} tokens/s`);
  if (usage) parts.push(`${usage.completion_tokens} token${usage.completion_tokens === 1 ? "" : "s"}`);
  if (finish === "length") parts.push("cut off at the longest answer");
  return parts.join(" · ");
}

function requestBody(asked) {
  const tokens = Number.parseInt($("tokens").value, 10);
  return JSON.stringify({
    model,
    messages: [...messages, asked],
    stream: true,
    stream_options: { include_usage: true },
    temperature: Number($("temperature").value) || 0,
    ...(tokens > 0 ? { max_completion_tokens: tokens } : {}),
  });
}

async function readAnswer(response, words) {
  let finish = null, usage = null, timings = null;
  for await (const event of events(response)) {
    // Who has scrolled up to read something is left there.
    const following = innerHeight + scrollY > document.body.scrollHeight - 120;
    if (event.error) throw new Error(event.error.message);
    usage = event.usage || usage;
    timings = event.timings || timings;
    for (const choice of event.choices) {
      words.textContent += choice.delta.content || "";
      finish = choice.finish_reason || finish;
    }
    if (following) scrollTo({ top: document.body.scrollHeight });
  }
  if (!finish) throw new Error("the connection broke before the answer was complete");
  return measured(timings, usage, finish);
}

async function ask() {
  const text = $("question").value.trim();
  problem("");
  if (!text) {
    problem("Type a question first.");
    $("question").focus();
    return;
  }
  if (!model && !(await connect())) return;
  const content = [
    ...pictures.map((picture) => ({ type: "image_url", image_url: { url: picture.url } })),
    { type: "text", text },
  ];
  const asked = { role: "user", content };
  const question = showQuestion(text);
  const answer = element("div", "answered coming");
  const words = element("p", "words");
  answer.append(words);
  $("log").append(answer);
  scrollTo({ top: document.body.scrollHeight });
  const before = { text: $("question").value, pictures };
  $("question").value = "";
  pictures = [];
  showPictures();
  busy(true);
  running = new AbortController();
  try {
    const response = await fetch("v1/chat/completions", {
      method: "POST", headers: headers(), body: requestBody(asked), signal: running.signal,
    });
    if (!response.ok) throw new Error(await errorOf(response));
    answer.append(element("p", "measured", await readAnswer(response, words)));
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (stopped) answer.append(element("p", "measured", "stopped"));
    else problem(error.message);
    if (!words.textContent) { // nothing was said: the question goes back to where it can be changed
      question.remove();
      answer.remove();
      $("question").value = before.text;
      pictures = before.pictures;
      showPictures();
    }
  } finally {
    if (words.textContent) messages.push(asked, { role: "assistant", content: words.textContent });
    running = null;
    answer.classList.remove("coming");
    busy(false);
    $("question").focus();
  }
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  $("log").setAttribute("aria-busy", String(is)); // a screen reader reads the answer once, when it is complete
  $("reset").disabled = is || !messages.length;
}

$("ask").onsubmit = (event) => {
  event.preventDefault();
  if (!running) ask();
};
$("stop").onclick = () => running && running.abort();
$("question").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
};
$("key").onchange = async () => {
  problem("");
  await connect();
};
$("reset").onclick = () => {
  messages.length = 0;
  $("log").replaceChildren();
  $("reset").disabled = true;
  problem("");
  $("question").focus();
};

$("key").value = sessionStorage.getItem("key") || "";
connect().then(() => $("question").focus());
