// Cases: what the model predicts for a sample, in words and bars.
const shows = (sample, index) => (sample.labels ? sample.labels.includes(index) : index === sample.label);
const isJudged = (sample) =>
  sample.prediction != null && sample.label != null && !sample.undecided.includes(sample.prediction);
const isWrong = (sample) => isJudged(sample) && !shows(sample, sample.prediction);

// Say what the model predicts, and what the image shows.
function judgement(sample) {
  const verdict = !isJudged(sample) ? "" : isWrong(sample) ? "✗ wrong: " : "✓ correct: ";
  if (sample.labels) {
    const truth = `the image shows ${sample.labels.map(className).join(", ")}`;
    const highest = `the highest score is that of ${className(sample.prediction)}`;
    return sample.prediction == null ? `${truth}.` : `${verdict}${highest}, ${truth}.`;
  }
  const truth = sample.label == null ? "the label is not known" : `the label is ${className(sample.label)}`;
  return `${verdict}${sample.prediction == null ? "" : `the model predicts ${className(sample.prediction)}, `}${truth}.`;
}

const judged = (sample) =>
  make("p", { class: !isJudged(sample) ? "" : isWrong(sample) ? "worse" : "better" }, judgement(sample));

// The class with the highest score besides the explained one: no runner-up where it is ahead of that.
const roleOfOther = (sample) => {
  if (sample.runner_up === sample.prediction) return "predicted";
  const { probabilities, runner_up, target } = sample;
  return probabilities?.[runner_up] > probabilities?.[target] ? "highest" : "runner-up";
};

// Say in which roles a class is listed.
function roles(sample, index) {
  const found = { explained: index === sample.target, [roleOfOther(sample)]: index === sample.runner_up };
  if (sample.labels) found.shown = shows(sample, index);
  found.undecided = sample.undecided.includes(index);
  return Object.keys(found).filter((role) => found[role]);
}

const score = (sample, index) => format(sample.probabilities[index], sample.probable ? 3 : undefined);

// List the five classes with the highest scores, and all labels, the explained class and the runner-up.
function prediction(sample) {
  const classes = (sample.probabilities ?? [])
    .map((probability, index) => ({ probability, index }))
    .sort((a, b) => b.probability - a.probability);
  const needed = [sample.label, sample.target, sample.runner_up, ...(sample.labels ?? [])];
  const listed = classes.filter((each, place) => place < 5 || needed.includes(each.index));
  return listed.map(({ probability, index }) => {
    const role = index === sample.target ? "target" : index === sample.runner_up ? "runner-up" : "";
    const fill = make("i");
    if (sample.probable) fill.style.width = `${100 * probability}%`;
    const words = roles(sample, index).join(", ");
    return make(
      "div",
      { class: `class ${role}` },
      make("span", {}, className(index), words && make("small", {}, words)),
      make("div", { class: "probability" }, fill),
      make("output", {}, score(sample, index)),
    );
  });
}
