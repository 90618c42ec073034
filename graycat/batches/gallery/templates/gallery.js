"use strict";
const main = document.querySelector("main");
const viewer = document.getElementById("viewer");
const big = viewer.querySelector("img");
const caption = viewer.querySelector("figcaption");
let shown = null;

const links = () => [...main.querySelectorAll("a.picture")];

function show(link) {
  if (!link) return;
  shown = link;
  big.src = link.href;
  big.alt = link.querySelector("img").alt;
  caption.textContent = link.closest("li").querySelector(".caption").textContent;
  if (!viewer.open) viewer.showModal();
}

function move(step) {
  const all = links();
  show(all[all.indexOf(shown) + step]);
}

main.addEventListener("click", (event) => {
  const link = event.target.closest("a.picture");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  show(link);
});
main.addEventListener("keydown", (event) => {
  const all = links();
  const at = all.indexOf(document.activeElement);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (at >= 0 && step && all[at + step]) {
    event.preventDefault();
    all[at + step].focus();
  }
});
viewer.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (step) move(step);
});
viewer.addEventListener("close", () => shown && shown.focus());
document.getElementById("back").addEventListener("click", () => move(-1));
document.getElementById("on").addEventListener("click", () => move(1));
document.getElementById("close").addEventListener("click", () => viewer.close());

function put(card) {
  const item = document.getElementById(`item-${card.number}`);
  if (!item) return;
  item.className = card.state;
  item.querySelector(".state").textContent = card.state;
  const there = item.querySelector(".picture");
  if (!card.image || there.dataset.of === card.image) return;
  const link = document.createElement("a");
  link.className = "picture";
  link.href = card.image;
  link.dataset.of = card.image;
  const image = document.createElement("img");
  image.src = card.thumbnail;
  image.alt = card.alt;
  link.append(image);
  const focused = document.activeElement === there;
  there.replaceWith(link);
  if (focused) link.focus();
}

async function look() {
  let pause = 2000;
  try {
    const answer = document.hidden ? null : await fetch(main.dataset.live);
    if (answer && (answer.status === 401 || answer.status === 403 || answer.status === 404)) return;
    if (answer && answer.ok) {
      const news = await answer.json();
      if (news.cards.length !== main.querySelectorAll("li").length) return location.reload();
      document.getElementById("summary").textContent = news.summary;
      document.getElementById("progress").value = news.over;
      news.cards.forEach(put);
      if (!news.live) return;
    } else if (answer) pause = 10000;
  } catch (error) {
    pause = 10000;
  }
  setTimeout(look, pause);
}
if (main.dataset.live) setTimeout(look, 1000);
