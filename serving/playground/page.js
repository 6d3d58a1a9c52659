// The page: files and recordings to the service and back, two sounds in sync, a live stream, and who answers.

import { columns, integers, levels, paint, scroll, top, wav } from "./sound.js";

const at = (id) => document.getElementById(id);
const sound = new AudioContext();
const here = { turn: 0, before: null, after: null, playing: null, offset: 0, pictures: {}, models: [] };

const TIERS = { full: "as trained", fast: "few steps", predictive: "no steps, predictive only" };

function say(text, problem = false, where = "status") {
  at(where).textContent = text;
  at(where).classList.toggle("problem", problem);
}

function headers(more = {}) {
  return at("key").value ? { ...more, Authorization: `Bearer ${at("key").value}` } : more;
}

/** An answer of the service, or an Error that says in its words why there is none. */
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: headers(options.headers) });
  } catch {
    throw new Error("The service does not answer. Is `unmuffle serve` still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401 || answer.status === 403) at("key-label").hidden = false;
  const body = await answer.json().catch(() => ({}));
  throw new Error(body.error ?? `The service answered ${answer.status}.`);
}

// ---- a recording, before and after ----------------------------------------------------------------------------------

async function enhance(blob, name) {
  const turn = ++here.turn;  // of several that are under way, the latest is shown
  stop();
  say(`Enhancing ${name} …`);
  try {
    const before = await decoded(blob);
    const began = performance.now();
    const answer = await ask(`v1/enhance?${wishes()}`, { method: "POST", body: blob, headers: { Accept: "audio/wav" } });
    const enhanced = await answer.blob();
    const took = (performance.now() - began) / 1000;
    const after = await decoded(enhanced);
    if (turn !== here.turn) return;
    stop();
    Object.assign(here, { before, after, offset: 0 });
    show(enhanced, name, took, answer.headers.get("X-Unmuffle-Version") ?? "a version without a name");
  } catch (problem) {
    if (turn === here.turn) say(problem.message, true);
  }
}

/** The options that were chosen, as a query. */
function wishes() {
  const query = new URLSearchParams();
  if (!at("tier-label").hidden) query.set("tier", at("tier").value);
  if (at("most").value) query.set("max_suppression_db", at("most").value);
  if (at("contrast").checked) query.set("contrast", "true");
  return query;
}

async function decoded(blob) {
  try {
    return await sound.decodeAudioData(await blob.arrayBuffer());
  } catch {
    throw new Error("Your browser cannot read this file as audio. Expected WAV, FLAC, OGG or MP3.");
  }
}

function show(enhanced, name, took, version) {
  at("result").hidden = false;
  const seconds = here.before.duration;
  const found = {};
  for (const side of ["before", "after"]) found[side] = columns(here[side].getChannelData(0), at(side).width);
  const topHz = top(found.before, sound.sampleRate);
  for (const side of ["before", "after"]) {
    here.pictures[side] = paint(at(side), found[side], topHz, sound.sampleRate);
    at(side).setAttribute("aria-label", `Spectrogram ${side}: ${seconds.toFixed(1)} s, 0 to ${topHz / 1000} kHz`);
  }
  at("scale").textContent = `Left to right: ${seconds.toFixed(1)} s. Bottom to top: 0 to ${topHz / 1000} kHz. Both pictures share one scale of levels, 85 dB.`;
  at("seek").max = seconds;
  URL.revokeObjectURL(at("download").href);
  at("download").href = URL.createObjectURL(enhanced);
  at("download").download = `${name.replace(/\.[^.]*$/, "")}-enhanced.wav`;
  at("took").textContent = `${took.toFixed(2)} s for ${seconds.toFixed(1)} s of audio, there and back`;
  at("live-file").hidden = !streams();
  say(`Done: ${name}, enhanced by ${version}.`);
  tick();
}

function play() {
  sound.resume();
  const start = sound.currentTime + 0.03;
  if (here.offset >= here.before.duration - 0.02) here.offset = 0;
  here.playing = { start, sides: {} };
  for (const side of ["before", "after"]) {
    const source = sound.createBufferSource(), gain = sound.createGain();
    source.buffer = here[side];
    gain.gain.value = side === chosen() ? 1 : 0;
    source.connect(gain).connect(sound.destination);
    source.start(start, here.offset);
    here.playing.sides[side] = { source, gain };
  }
  at("play").textContent = "Pause";
  requestAnimationFrame(tick);
}

function stop() {
  if (!here.playing) return;
  here.offset = position();
  for (const { source } of Object.values(here.playing.sides)) source.stop();
  here.playing = null;
  at("play").textContent = "Play";
}

function position() {
  if (!here.before) return 0;
  const since = here.playing ? Math.max(0, sound.currentTime - here.playing.start) : 0;
  return Math.min(here.offset + since, here.before.duration);
}

const chosen = () => document.querySelector("input[name=side]:checked").value;

/** Both sounds run all the time; the toggle opens one and closes the other within a few milliseconds. */
function toggled() {
  for (const [side, { gain }] of Object.entries(here.playing?.sides ?? {})) {
    gain.gain.setTargetAtTime(side === chosen() ? 1 : 0, sound.currentTime, 0.004);
  }
}

function tick() {
  const now = position();
  if (here.playing && now >= here.before.duration) {
    stop();
    here.offset = 0;
  }
  at("seek").value = here.playing ? now : here.offset;
  at("seek").setAttribute("aria-valuetext", `${Number(at("seek").value).toFixed(1)} seconds`);
  at("clock").textContent = `${Number(at("seek").value).toFixed(1)} / ${here.before.duration.toFixed(1)} s`;
  for (const [side, image] of Object.entries(here.pictures)) {
    const canvas = at(side), context = canvas.getContext("2d");
    context.putImageData(image, 0, 0);
    context.fillStyle = "#fff";
    context.fillRect((at("seek").value / here.before.duration) * canvas.width - 1, 0, 2, canvas.height);
  }
  if (here.playing) requestAnimationFrame(tick);
}

function moveTo(seconds) {
  const played = Boolean(here.playing);
  stop();
  here.offset = Math.max(0, Math.min(seconds, here.before.duration));
  if (played) play();
  else tick();
}

// ---- the microphone --------------------------------------------------------------------------------------------------

/** Frames of 20 ms to `take`, until the function that comes back is called. */
async function microphone(take) {
  if (!navigator.mediaDevices) throw new Error("The browser gives no microphone to this address. Open the page at localhost, or over https.");
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false } });
  } catch (refused) {
    throw new Error(`There is no microphone to listen to (${refused.message}).`);
  }
  await sound.resume();
  await sound.audioWorklet.addModule("playground/capture.js");
  const source = sound.createMediaStreamSource(stream), capture = new AudioWorkletNode(sound, "capture", { numberOfOutputs: 0 });
  capture.port.onmessage = ({ data }) => take(data);
  source.connect(capture);
  return () => {
    source.disconnect();
    stream.getTracks().forEach((track) => track.stop());
  };
}

let recording = null;

async function record() {
  if (recording) {
    recording.end();
    const { frames } = recording;
    recording = null;
    at("record").textContent = "Record";
    const samples = new Float32Array(frames.reduce((sum, frame) => sum + frame.length, 0));
    frames.reduce((place, frame) => (samples.set(frame, place), place + frame.length), 0);
    if (samples.length) await enhance(wav(samples, sound.sampleRate), "recording.wav");
    return;
  }
  stop();
  const frames = [];
  at("record").disabled = true;  // until the microphone is there: a second one would never be let go
  try {
    recording = { frames, end: await microphone((frame) => {
      frames.push(frame);
      say(`Recording: ${(frames.length / 50).toFixed(0)} s. Press Stop when you are done.`);
    }) };
    at("record").textContent = "Stop";
    say("Recording. Press Stop when you are done.");
  } catch (problem) {
    say(problem.message, true);
  } finally {
    at("record").disabled = false;
  }
}

// ---- live ------------------------------------------------------------------------------------------------------------

/** Browsers send no headers with a WebSocket: the key goes into its first message. */
const key = () => (at("key").value ? { key: at("key").value } : {});
const streams = () => here.models.some((model) => model.causal);

/** One stream to the service and back; goes on where it was when the connection is lost. */
class Live {
  constructor() {
    this.rate = sound.sampleRate;
    this.sent = [];      // frames that may have to be sent again: {from, pcm, when}
    this.samplesIn = 0;
    this.received = 0;
    this.late = [];      // seconds from the last sample of a frame to its enhanced self
    this.session = null;
    this.tries = 0;
    this.ended = false;
    this.tail = new Float32Array(0);
    this.playAt = 0;
    this.finished = new Promise((resolve) => { this.finish = resolve; });
    this.open();
  }

  open() {
    const address = new URL("v1/stream", location.href.replace(/^http/, "ws"));
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.ready = false;
    this.socket.onopen = () => this.socket.send(JSON.stringify(this.session
      ? { type: "resume", session: this.session, received: this.received, ...key() }
      : { type: "start", sample_rate: this.rate, channels: 1, encoding: "s16le", ...key() }));
    this.socket.onmessage = ({ data }) => (typeof data === "string" ? this.told(JSON.parse(data)) : this.heard(new Int16Array(data)));
    this.socket.onclose = () => this.lost();
  }

  told(message) {
    if (message.type === "started") {
      this.session = message.session;
      this.version = message.version;
      this.ready = true;
      this.tries = 0;
      for (const frame of this.sent) {
        const skip = Math.max(0, message.position - frame.from);
        if (skip < frame.pcm.length) this.socket.send(frame.pcm.subarray(skip));
      }
      if (this.ending) this.socket.send(JSON.stringify({ type: "end" }));
    } else if (message.type === "ended") {
      this.ended = true;
      this.finish(`Done, by ${message.version}: ${(this.samplesIn / this.rate).toFixed(1)} s in, ${(message.samples / this.rate).toFixed(1)} s out, ${message.deadline_misses} of ${message.chunks} chunks late.`);
    } else if (message.type === "error") {
      this.ended = true;
      this.finish(new Error(message.error));
    }
  }

  /** One frame of sound, as it is made. */
  feed(samples) {
    const frame = { from: this.samplesIn, pcm: integers(samples), when: performance.now() };
    this.samplesIn += samples.length;
    this.sent.push(frame);
    if (this.ready) this.socket.send(frame.pcm);
  }

  end() {
    this.ending = true;
    if (this.ready) this.socket.send(JSON.stringify({ type: "end" }));
  }

  heard(pcm) {
    if (!pcm.length) return;
    this.received += pcm.length;
    const now = performance.now();
    while (this.sent.length && this.sent[0].from + this.sent[0].pcm.length <= this.received) {
      this.late.push((now - this.sent.shift().when) / 1000);
    }
    this.late = this.late.slice(-100);
    this.socket.send(JSON.stringify({ type: "ack", received: this.received }));
    const samples = Float32Array.from(pcm, (value) => value / 32768);
    this.play(samples);
    this.draw(samples);
  }

  play(samples) {
    const buffer = sound.createBuffer(1, samples.length, this.rate), source = sound.createBufferSource();
    buffer.copyToChannel(samples, 0);
    source.buffer = buffer;
    source.connect(sound.destination);
    if (this.playAt < sound.currentTime) this.playAt = sound.currentTime + 0.08;
    source.start(this.playAt);
    this.playAt += buffer.duration;
  }

  draw(samples) {
    const all = new Float32Array(this.tail.length + samples.length), step = Math.round(this.rate / 50);
    all.set(this.tail);
    all.set(samples, this.tail.length);
    let place = 1024;
    for (; place <= all.length; place += step) scroll(at("scroll"), levels(all, place - 512), Math.min(8000, this.rate / 2), this.rate, 4);
    this.tail = all.slice(Math.max(0, place - 1024));
  }

  /** Middle of the delays of late, in ms. */
  delay() {
    const sorted = [...this.late].sort((a, b) => a - b);
    return sorted.length ? Math.round(1000 * sorted[sorted.length >> 1]) : null;
  }

  lost() {
    if (this.ended) return;
    this.ready = false;
    if (!this.session || ++this.tries > 5) {
      this.ended = true;
      this.finish(new Error("The connection was lost, and could not be taken up again."));
    } else {
      setTimeout(() => this.open(), 300 * this.tries);
    }
  }
}

let live = null;

async function begin(source, button) {
  if (live) return live.stop();
  stop();
  const one = new Live();
  const words = button.textContent;
  let cease = () => {};
  live = { stop: () => { cease(); one.end(); } };
  sound.resume();
  button.textContent = "Stop";
  at("live-picture").hidden = false;
  say("Connecting …", false, "live-status");
  const report = setInterval(() => {
    const delay = one.delay();
    if (delay !== null) say(`${one.version} answers: ${(one.received / one.rate).toFixed(1)} s came back, each about ${delay} ms after it was said.`, false, "live-status");
  }, 500);
  try {
    cease = await source(one);
    const end = await one.finished;
    if (end instanceof Error) throw end;
    say(end, false, "live-status");
  } catch (problem) {
    say(problem.message, true, "live-status");
  } finally {
    clearInterval(report);
    cease();
    one.ended = true;
    one.socket.close();
    live = null;
    button.textContent = words;
  }
}

/** The recording above, in real time, as if it were said now. */
async function fromFile(one) {
  const samples = here.before.getChannelData(0), frame = Math.round(one.rate / 50), began = performance.now();
  let place = 0;
  const timer = setInterval(() => {
    const due = Math.min(samples.length, ((performance.now() - began) / 1000) * one.rate);
    for (; place < due; place += frame) one.feed(samples.subarray(place, place + frame));
    if (place >= samples.length) {
      clearInterval(timer);
      one.end();
    }
  }, 20);
  return () => clearInterval(timer);
}

// ---- who answers -----------------------------------------------------------------------------------------------------

async function introduce() {
  try {
    const { models, split } = await (await ask("v1/models")).json();
    here.models = models;
    const [model] = models;
    at("who").textContent = `${model.name} answers: a ${model.kind} network at ${model.sample_rate / 1000} kHz.`;
    at("model").replaceChildren(...models.map((one) => new Option(`${one.name} (${one.kind})`, one.name)));
    const tiers = model.tiers ?? [];
    at("tier-label").hidden = !tiers.length;
    at("tier").replaceChildren(...tiers.map((tier) => new Option(TIERS[tier] ?? tier, tier)));
    facts([
      ["Version", model.name],
      ["Network", `${model.version.network} (${model.kind}), ${model.parameters.toLocaleString("en")} parameters`],
      ["Works at", `${model.sample_rate / 1000} kHz: what lies above ${model.sample_rate / 2000} kHz is not in the answer`],
      ["Delay", model.causal ? `${((1000 * model.latency_samples) / model.sample_rate).toFixed(1)} ms, causal` : "hears the whole recording first"],
      ["Weights", `sha256 ${model.version.weights_sha256}`],
      ...(split ? [["Canary", `${split.candidate.use}/${split.candidate.version} answers ${split.percent} % of the requests`]] : []),
    ]);
    at("live").disabled = !streams();
    if (!streams()) at("live-note").textContent = "This network hears the whole recording before it answers, so there is no live stream. A causal one has it.";
    await scorecard();
  } catch (problem) {
    at("who").textContent = problem.message;
    at("who").classList.add("problem");
  }
}

function facts(pairs) {
  at("facts").replaceChildren(...pairs.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
}

function element(kind, text, children = []) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  made.append(...children);
  return made;
}

async function scorecard() {
  const answer = await fetch("v1/scores", { headers: headers() }).catch(() => null);
  const place = at("scores");
  if (!answer?.ok) return place.replaceChildren(element("p", "This version has no scorecard: it was never promoted by a gate."));
  const card = await answer.json();
  const figure = (value) => (value === null ? "none" : value.toFixed(2));
  const rows = card.lines.map((line) => {
    const name = element("th", `${line.title}${line.unit ? `, ${line.unit}` : ""}${line.higher_is_better ? "" : " (less is better)"}`);
    name.scope = "row";
    const interval = line.low === null ? "" : ` [${figure(line.low)}, ${figure(line.high)}]`;
    return element("tr", undefined, [name, element("td", figure(line.unprocessed)), element("td", figure(line.version) + interval)]);
  });
  const head = ["Metric", "Before", `After ${card.version}`].map((word) => Object.assign(element("th", word), { scope: "col" }));
  const table = element("table", undefined, [element("thead", undefined, [element("tr", undefined, head)]), element("tbody", undefined, rows)]);
  const box = element("div", undefined, [table]);
  box.className = "scroll";
  box.tabIndex = 0;
  const note = element("p", `Means over ${card.rows} utterances of the gate corpus ${card.corpus_digest.slice(0, 12)}, with intervals. ${card.verdict}`);
  note.className = "soft";
  return place.replaceChildren(element("h3", "Its scorecard"), box, note);
}

// ---- what people do --------------------------------------------------------------------------------------------------

at("file").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = "";  // the same file again, with other wishes, is a change too
  if (file) enhance(file, file.name);
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    const file = kind === "drop" && event.dataTransfer.files[0];
    if (file) enhance(file, file.name);
  });
}
at("record").addEventListener("click", record);
at("play").addEventListener("click", () => (here.playing ? (stop(), tick()) : play()));
at("seek").addEventListener("input", ({ target }) => moveTo(Number(target.value)));
for (const radio of document.querySelectorAll("input[name=side]")) radio.addEventListener("change", toggled);
for (const side of ["before", "after"]) {
  at(side).addEventListener("click", (event) => moveTo((event.offsetX / event.target.clientWidth) * here.before.duration));
}
at("live").addEventListener("click", () => begin((one) => microphone((frame) => one.feed(frame)), at("live")));
at("live-file").addEventListener("click", () => begin(fromFile, at("live-file")));
at("key").addEventListener("change", introduce);
introduce();
