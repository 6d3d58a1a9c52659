  const facts = JSON.parse(document.getElementById("facts").textContent);
  const articles = new Map([...document.querySelectorAll(".utterance")].map((one) => [one.dataset.row, one]));
  const byId = (id) => document.getElementById(id);

  // ---- heat map: one metric at a time
  byId("metric-chips").hidden = false;
  const showMetric = (name) => {
    for (const map of document.querySelectorAll(".heatmap")) map.hidden = map.dataset.metric !== name;
  };
  byId("metric-chips").addEventListener("change", (event) => showMetric(event.target.value));
  showMetric(document.querySelector("#metric-chips input:checked").value);

  // ---- utterances: both ends of one slice at a time
  function showSlice(part) {
    byId("all").hidden = true;
    for (const article of articles.values()) byId("all").append(article);
    for (const end of ["worst", "best"]) {
      byId(end).hidden = part[end].length === 0;
      for (const pick of part[end]) byId(end).append(articles.get(pick.row));
    }
  }
  if (articles.size) {
    byId("slice-chips").hidden = false;
    byId("slice-chips").addEventListener("change", (event) => showSlice(facts.slices[event.target.value]));
    showSlice(facts.slices[document.querySelector("#slice-chips input:checked").value]);
  }

  // ---- one track at a time; another track of the same utterance goes on from the same place
  const silence = (but) => {
    for (const sound of document.querySelectorAll("audio")) if (sound !== but) sound.pause();
  };
  for (const utterance of articles.values()) {
    let place = 0, last = null;
    for (const track of utterance.querySelectorAll(".track")) {
      const sound = track.querySelector("audio"), picture = track.querySelector(".picture"), head = track.querySelector(".head");
      const follow = () => {
        if (sound.paused) return;
        place = sound.currentTime;
        head.style.left = 100 * place / sound.duration + "%";
        requestAnimationFrame(follow);
      };
      sound.addEventListener("play", () => {
        silence(sound);
        if (last !== null && last !== sound) sound.currentTime = place;
        last = sound;
        track.classList.add("playing");
        follow();
      });
      sound.addEventListener("pause", () => track.classList.remove("playing"));
      sound.addEventListener("ended", () => { last = null; });
      picture.addEventListener("click", (event) => {
        const box = picture.getBoundingClientRect();
        place = sound.duration * (event.clientX - box.left) / box.width;
        last = sound;
        sound.currentTime = place;
        sound.play();
      });
    }
  }

  // ---- blind comparison: who is A and who is X is known to these variables only
  function blindComparison() {
    const box = byId("abx"), sound = byId("abx-sound"), kept = "unmuffle-abx-" + facts.scorecard;
    const names = { challenger: facts.challenger, opponent: facts.opponent, noisy: facts.opponent };
    const coin = () => crypto.getRandomValues(new Uint8Array(1))[0] & 1;
    let votes = [], deck = [], trial = null, heard = new Set();
    try { votes = JSON.parse(localStorage.getItem(kept)) || []; } catch { /* a page on disk may have no storage */ }

    const draw = () => {
      if (!deck.length) {
        deck = [...articles.keys()];
        for (let i = deck.length - 1; i > 0; i--) {
          const j = Math.floor(crypto.getRandomValues(new Uint32Array(1))[0] / 2 ** 32 * (i + 1));
          [deck[i], deck[j]] = [deck[j], deck[i]];
        }
      }
      const [a, b] = coin() ? facts.roles : [...facts.roles].reverse();
      trial = { row: deck.pop(), a, b, x: coin() ? "a" : "b" };
      heard = new Set();
      sound.pause();
      show();
    };
    const show = () => {
      const ready = heard.has("x") && (heard.has("a") || heard.has("b"));
      byId("abx-trial").textContent = `Trial ${votes.length + 1}: ${trial.row}`;
      byId("abx-count").textContent = votes.length === 1 ? "1 vote" : `${votes.length} votes`;
      byId("abx-hint").style.visibility = ready ? "hidden" : "visible";
      byId("abx-save").disabled = votes.length === 0;
      for (const button of box.querySelectorAll("[data-vote]")) button.disabled = !ready;
      for (const button of box.querySelectorAll("[data-play]")) button.classList.remove("on");
    };
    const play = (letter) => {
      const track = (role) => articles.get(trial.row).querySelector(`[data-role="${role}"]`);
      const chosen = track(trial[letter === "x" ? trial.x : letter]);
      const level = Number(chosen.dataset.level), softest = Math.min(...facts.roles.map((role) => Number(track(role).dataset.level)));
      heard.add(letter);
      show();
      silence(sound);
      sound.src = chosen.querySelector("audio").src;
      sound.volume = Math.max(0.01, 10 ** ((softest - level) / 20));
      box.querySelector(`[data-play="${letter}"]`).classList.add("on");
      sound.play().catch(() => { /* stopped by the next one */ });
    };
    const vote = (answer) => {
      if (box.querySelector("[data-vote]").disabled) return;
      votes.push({
        row: trial.row, a: names[trial.a], b: names[trial.b], x: trial.x, answer,
        correct: answer === trial.x, at: new Date().toISOString(),
      });
      try { localStorage.setItem(kept, JSON.stringify(votes)); } catch { /* the votes are still in the page */ }
      byId("abx-result").textContent = "";
      draw();
    };
    // Probability of at least so many right answers by guessing.
    const byChance = (right, all) => {
      let term = 0.5 ** all, sum = 0;
      for (let k = 0; k <= all; k++) {
        if (k >= right) sum += term;
        term *= (all - k) / (k + 1);
      }
      return Math.min(1, sum);
    };
    const tally = () => {
      const correct = votes.filter((one) => one.correct).length;
      return { votes: votes.length, correct, probability_by_chance: byChance(correct, votes.length) };
    };
    const save = () => {
      const { scorecard, corpus, challenger, opponent } = facts;
      const text = JSON.stringify({ scorecard, corpus, challenger, opponent, tally: tally(), votes }, null, 2);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
      link.download = `abx-votes-${scorecard.slice(0, 8)}.json`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    };

    for (const button of box.querySelectorAll("[data-play]")) button.addEventListener("click", () => play(button.dataset.play));
    for (const button of box.querySelectorAll("[data-vote]")) button.addEventListener("click", () => vote(button.dataset.vote));
    byId("abx-save").addEventListener("click", save);
    byId("abx-look").addEventListener("click", () => {
      const { votes: all, correct, probability_by_chance: chance } = tally();
      byId("abx-result").textContent = all ? `${correct} of ${all} right; guessing does as well with probability ${chance.toFixed(3)}.` : "No votes yet.";
    });
    box.addEventListener("keydown", (event) => {
      const key = event.key.toLowerCase();
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (["a", "b", "x"].includes(key)) play(key);
      if (key === "1" || key === "2") vote(key === "1" ? "a" : "b");
    });
    box.hidden = false;
    draw();
  }
  if (articles.size) blindComparison();
