// What each panel shows, in words, one click away.

import { button, element } from "./dom.js";

const TEXTS = {
  mosaic: ["Every run of the sweep is one cell. Rows and columns are any two fields; runs that share a cell lie side by side in it. The colour is the verdict (what happened to the run, by stated rules) or a metric at the step of the scrubber, so that you can watch the whole sweep train.", "Click a cell to look into that run. Shift-click another one to see both, under one scrubber. Arrow keys move from cell to cell, / searches, a key of the legend shows its runs alone."],
  axes: ["Each line is a run. It crosses the axes at the settings that it was trained with and at the metrics with which it ended. Drag along an axis to keep the runs in a range: the mosaic fades the others. Several axes can be brushed; a click on one lets go of it.", "Axes whose values span more than a factor of thirty are logarithmic. What lies beyond the range of most runs is drawn at its end."],
  plane: ["Grey shading is the target's density p. Dots are samples of the generator G. A mode with a ring is covered; one with a dashed ring and a cross is lost (it has less than a quarter of the mass that real samples put into it).", "The colours behind are what the discriminator D says: red where it takes a point for real, blue for fake, white where it is undecided. The manifold is a grid of latents z as G bends it into the plane: where its lines lie close, G puts much mass. Arrows show where G's loss would move each fake next: they are D's slope, weighted by the loss.", "Scroll to zoom, drag to move, double-click to go back. While you scrub, D is drawn on 32 x 32 points, at rest on 96 x 96. The line below says whether networks are evaluated in the page, or what was stored is shown."],
  value: ["The orange minibatch value is what a training log shows (its negative is D's loss). It scatters around the true value V(D, G), blue, which is the same loss in the limit of an endless batch. Green is a certified lower bound of the value that the best D would reach against this very G.", "A loss curve alone shows the orange line. That it is flat, or near the dotted value at p = q, says nothing by itself: the green line tells whether the generator is good, the gap between the lines how far D is behind. Bands are 95 % intervals of the measurement."],
  budget: ["V minus its value at p = q is the sum of two large terms. Upwards: what is left of the divergence between target and generator. Downwards: the discriminator's lag behind its best response. The black line is what remains, and all that a loss can show; orange bars are the noise of one minibatch, thin black ones 95 % intervals.", "A loss reads 'converged' where the two cancel, however large they are."],
  coverage: ["How many modes of the target hold at least a quarter of their weight of G's samples (or as the recorded convention says), beside what as many real samples get."],
  accuracy: ["The share of samples, half of them real, that D tells right, beside what the best D would. 50 % hides which of two things is true: that nothing is left to tell apart (then the best D has 50 %, too), or that D knows nothing."],
  divergence: ["The Jensen-Shannon divergence of target and generator in nats: 0 where they are equal, log 2 = 0.693 where they do not overlap. It is a lower bound; deep measurements, where there are some, are sharper."],
  losses: ["The players' minibatch losses at the last update: what one usually has. Compare their shape with the panels above before believing it."],
  free: ["Any recorded metric over training. Diverged runs stop where they diverged."],
  verdict: ["A verdict is the first of a list of stated rules that holds for the recorded curves. Here stand the rule in words with its numbers, what it saw in this run, and the step at which it happened. Fragile ones would read otherwise, had the run been measured more rarely."],
  masses: ["Each bar is one mode: the share of G's samples in it, the line the share that real samples have there. From a quarter of the line on (the lower tick) the mode counts as held."],
  fork: ["Training goes on from the state at the scrubber, in this page, with settings that you may change while it runs. It uses the package's formulas and other random numbers, so it is another sample of the same game, not the recorded run.", "Everything here is computed in the browser: V on 1,024 quasi-random points, the best value as a lower bound by kernels pushed through G, coverage on the same points. Where the state was kept without the optimizers' memories, these start afresh, and the first steps are larger than they would have been."],
  substeps: ["One step of training in parts: 1 draw real samples and latents; 2 D judges both; 3 the gradient of D's loss by its weights; 4 D's optimizer moves it; 5 draw new latents; 6 the gradient of G's loss, through D, by G's weights; 7 G's optimizer moves it."],
  play: ["Pick a target or paint one, choose a recipe, and train a GAN from scratch here. Beside what every such demonstration shows stands the truth: the value V, the best value any D could reach, and the modes covered.", "Copy the recipe as TOML or Python to run it with many seeds, exact measurements and intervals: one run in a page is an anecdote."],
};

// A heading with a button that explains.
export function titled(title, topic) {
  const head = element("h2", { text: title });
  if (topic in TEXTS) head.append(" ", button("?", `About: ${title}`, () => explain(title, topic), { class: "about" }));
  return element("div", { class: "head" }, head);
}

export function explain(title, topic) {
  const close = button("Close", "Close", () => box.close());
  const box = element("dialog", { "aria-label": title }, element("h2", { text: title }), ...TEXTS[topic].map((text) => element("p", { text })), close);
  box.addEventListener("close", () => box.remove());
  box.addEventListener("click", (event) => event.target === box && box.close());
  document.body.append(box);
  box.showModal();
}

const KEYS = [["← →", "a measurement back or on"], ["Home End", "first, last"], ["space", "play, pause"], ["w a s d", "to the run above, left, below, right"], ["1 – 6", "layers on and off"], ["c", "compare with the next run of the same setting"], ["x", "one run again"], ["f", "train on from here"], ["/", "search"], ["t", "light, dark"], ["?", "these keys"]];

export function keys() {
  const list = element("dl", { class: "keys" });
  for (const [key, text] of KEYS) list.append(element("dt", { text: key }), element("dd", { text }));
  const box = element("dialog", { "aria-label": "Keys" }, element("h2", { text: "Keys" }), list, button("Close", "Close", () => box.close()));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
}
