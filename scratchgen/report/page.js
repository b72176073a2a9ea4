"use strict";
const stage = document.querySelector("#stage");
const controls = document.querySelector(".controls");
const thumbs = [...document.querySelectorAll(".thumbs img")];
const dialog = document.querySelector("dialog");
let touched = 0;

if (stage && dialog) {
  const frames = [...thumbs, stage].map((image) => ({ src: image.src, alt: image.alt }));
  const [large, told] = [dialog.querySelector("img"), dialog.querySelector("output")];
  let opened = 0;

  const open = (at) => {
    opened = Math.min(Math.max(at, 0), frames.length - 1);
    large.src = frames[opened].src;
    large.alt = told.value = frames[opened].alt;
    large.parentElement.className = stage.parentElement.className;
    if (!dialog.open) dialog.showModal();
  };
  document.querySelectorAll(".thumbs a").forEach((link, at) => link.addEventListener("click", (event) => {
    event.preventDefault();
    open(at);
  }));
  dialog.querySelector("button").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") open(opened - 1);
    if (event.key === "ArrowRight") open(opened + 1);
  });

  if (controls && frames.length > 1) {
    const [slider, play, label] = ["input", "button", "output"].map((tag) => controls.querySelector(tag));
    let timer = 0;
    const show = (at) => {
      stage.src = frames[at].src;
      stage.alt = label.value = frames[at].alt;
      slider.setAttribute("aria-valuetext", frames[at].alt);
    };
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "Play";
    };
    slider.max = frames.length - 1;
    slider.value = slider.max;
    show(frames.length - 1);
    slider.addEventListener("input", () => {
      touched = Date.now();
      stop();
      show(Number(slider.value));
    });
    play.addEventListener("click", () => {
      touched = Date.now();
      if (timer) return stop();
      play.textContent = "Stop";
      let at = -1;
      const next = () => {
        at += 1;
        slider.value = at;
        show(at);
        if (at === frames.length - 1) stop();
      };
      timer = setInterval(next, Math.max(150, Math.min(700, 8000 / frames.length)));
      next();
    });
    controls.hidden = false;
  }
}

const seconds = Number(document.documentElement.dataset.refresh || 0);
if (seconds) {
  setInterval(() => {
    const looking = (dialog && dialog.open) || Date.now() - touched < 60000;
    if (!looking) location.reload();
  }, 1000 * seconds);
}
