// Training in a worker: takes orders, trains while it may, and says where it is.
//
// Orders: {do: "start", game, measureEvery}, {do: "go", speed, only}, {do: "pause"}, {do: "steps", count},
// {do: "part"}, {do: "change", recipe}, {do: "target", target}. Answers: {at: step, losses, measured, gen, disc, part}.

import { discGradient, draw, genGradient, optimizerNumbers, step, update } from "./training.js";
import { measure, nodes } from "./truth.js";
import { uniforms } from "./randomness.js";

const PIECE_MS = 40, SAY_MS = 90;

export const PARTS = [
  "draw real samples and latents", "D judges real and fake", "the gradient of D's loss", "D moves",
  "draw new latents", "the gradient of G's loss, through D", "G moves",
];

export class Trainer {
  constructor(say) {
    this.say = say;
    this.running = false;
    this.only = "";
    this.speed = 0; // steps a second at most; 0 for as many as there are
    this.part = 0;
  }

  take(order) {
    if (order.do === "start") this.start(order);
    else if (!this.game) return;
    else if (order.do === "go") this.go(order);
    else if (order.do === "pause") this.running = false;
    else if (order.do === "steps") this.steps(order.count);
    else if (order.do === "part") this.onePart();
    else if (order.do === "change") this.change(order.recipe);
    else if (order.do === "target") {
      this.game.target = order.target;
      this.nodes = nodes(order.target, this.game.recipe);
      this.report();
    }
  }

  start({ game, seed = 1 }) {
    this.game = game;
    this.uniform = uniforms(seed);
    this.nodes = nodes(game.target, game.recipe);
    this.part = 0;
    this.losses = {};
    this.report();
  }

  change(recipe) {
    const old = this.game.recipe, forgets = (who) => recipe[`${who}_optimizer`] !== old[`${who}_optimizer`];
    for (const who of ["gen", "disc"]) if (forgets(who)) this.game.memory[who] = {};
    this.game.recipe = recipe;
    this.report();
  }

  go({ speed, only }) {
    this.speed = speed;
    this.only = only;
    if (this.running) return;
    this.running = true;
    this.said = 0;
    this.loop();
  }

  loop() {
    if (!this.running) return;
    const start = performance.now();
    if (this.speed) this.one();
    else while (performance.now() - start < PIECE_MS && this.running) this.one();
    if (performance.now() - this.said > SAY_MS || this.speed) this.report();
    setTimeout(() => this.loop(), this.speed ? Math.max(0, 1000 / this.speed - (performance.now() - start)) : 0);
  }

  one() {
    this.losses = step(this.game, this.uniform, this.only);
    this.part = 0;
    if (!Number.isFinite(this.losses.loss_disc) && !Number.isFinite(this.losses.loss_gen)) this.running = false;
  }

  steps(count) {
    for (let i = 0; i < count; i++) this.one();
    this.report();
  }

  // One of the seven parts of a step, and what it found.
  onePart() {
    const { game } = this, { recipe } = game, norm = (g) => Math.sqrt(Object.values(g).reduce((sum, x) => sum + x.reduce((s, v) => s + v * v, 0), 0));
    let text = "";
    if (this.part === 0 || this.part === 4) this.batch = draw(game, this.uniform);
    if (this.part === 0 || this.part === 4) text = `${recipe.batch_size} of each`;
    if (this.part === 1) {
      this.found = discGradient(game, this.batch);
      text = `D's loss ${this.found.loss.toPrecision(4)}`;
    }
    if (this.part === 2) text = `its norm is ${norm(this.found.gradient).toPrecision(3)}`;
    if (this.part === 3) update(recipe.disc_optimizer, game.disc.params, this.found.gradient, game.memory.disc, optimizerNumbers(recipe.disc_optimizer, recipe.numbers, "disc"));
    if (this.part === 5) {
      this.foundGen = genGradient(game, this.batch);
      text = `G's loss ${this.foundGen.loss.toPrecision(4)}, its norm is ${norm(this.foundGen.gradient).toPrecision(3)}`;
    }
    if (this.part === 6) {
      update(recipe.gen_optimizer, game.gen.params, this.foundGen.gradient, game.memory.gen, optimizerNumbers(recipe.gen_optimizer, recipe.numbers, "gen"));
      game.step += 1;
    }
    const done = this.part;
    this.part = (this.part + 1) % PARTS.length;
    this.losses = { ...this.losses, loss_disc: this.found?.loss ?? NaN, loss_gen: this.foundGen?.loss ?? this.losses.loss_gen ?? NaN };
    this.report({ number: done + 1, text: `${PARTS[done]}${text ? `: ${text}` : ""}` });
  }

  report(part = null) {
    const { game } = this;
    this.reports = (this.reports ?? 0) + 1;
    // The best value takes as long as several steps: while training, every third report has it.
    const measured = measure(game, this.nodes, !this.running || this.reports % 3 === 0);
    this.say({ at: game.step, losses: this.losses, measured, gen: game.gen, disc: game.disc, part, running: this.running });
    this.said = performance.now();
  }
}

// Takes orders from the page, in a worker.
export function serve(scope) {
  const trainer = new Trainer((answer) => scope.postMessage(answer));
  scope.onmessage = (event) => trainer.take(event.data);
}
