// Figures of a step, and going through the steps of a run again.

import { Chart } from "./chart.js";

const $ = (id) => document.getElementById(id);

/** Wires the bar of steps over the frames of `view`. `idle()` says whether nothing runs; `still`: nothing is to move. */
export function setUpReplay({ view, idle, still }) {
  const alpha = new Chart($("alpha-chart"), { label: "alpha over time", x: [1, 0], y: [0, 1], xName: "time t, running from 1 to 0", yName: "α: share not masked" });
  let timer;

  function counters(report) {
    $("c-step").textContent = report ? (report.steps ? `${report.step} / ${report.steps}` : String(report.step)) : "0";
    $("c-masked").textContent = String(report ? report.masked : view.frames[0].tokens.filter((token) => token === view.vocabulary.mask).length);
    $("c-calls").textContent = String(report?.network_calls ?? 0);
    const { t, alpha_t: share } = report ?? { t: 1, alpha_t: 0 };
    alpha.mark(t, share);
    alpha.draw();
    // the loop of ReMDM holds another share for a while
    const shares = $("sampler").value === "remdm-loop" ? "." : `: about ${Math.round(100 * share)} % of the open tokens should stand, ${Math.round(100 * (1 - share))} % be masked.`;
    $("alpha-text").textContent = `t = ${t.toFixed(3)}, α = ${share.toFixed(3)}${shares}`;
  }

  function scrub(index) {
    view.show(index);
    counters(view.frames[index].report);
  }

  function replay() {
    const end = view.frames.length - 1;
    let index = still ? end : 0;
    const pause = Math.max(30, Math.min(150, 6000 / end));
    const next = () => {
      if (!idle() || view.frames.length - 1 !== end) {
        return;
      }
      $("scrub").value = String(index);
      scrub(index);
      index += 1;
      if (index <= end) {
        timer = setTimeout(next, pause);
      }
    };
    clearTimeout(timer);
    next();
  }

  $("scrub").addEventListener("input", () => {
    clearTimeout(timer);
    scrub(Number($("scrub").value));
  });
  $("play").addEventListener("click", replay);

  alpha.line("alpha", [[1, 0], [0, 1]]);
  alpha.draw();
  return { counters };
}
