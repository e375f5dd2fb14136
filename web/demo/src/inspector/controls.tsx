import { useFreshet, useFreshetStatus } from "@freshet/query/react";
import { useEffect, useState } from "react";
import { faults } from "../live.js";
import { cutMs, type Delay } from "../faults.js";
import { busy } from "../focus.js";
import { sendMessage } from "../messages.js";
import { useAuthor } from "../use-author.js";
import { useCountdown } from "./use-countdown.js";

const delays: readonly [delay: Delay, text: string, title: string][] = [
  ["none", "none", "as they come"],
  ["slow", "0.4 s", "each answer by as much"],
  ["shuffled", "shuffled", "each answer by up to 2 s: a later one may overtake an earlier one"],
];
const burst = 20;

export function Controls({ conversation }: { conversation: string }) {
  const [, render] = useState(0);
  useEffect(() => faults.onChange(() => render((n) => n + 1)), []);
  const left = useCountdown(faults.cutUntil);
  const freshet = useFreshet();
  useFreshetStatus(); // who leads may have changed
  const author = useAuthor();
  const [writing, setWriting] = useState(false);
  const [failed, setFailed] = useState(0);

  const write = async () => {
    if (writing) return;
    setWriting(true);
    const all = Array.from({ length: burst }, (_, n) =>
      sendMessage({ conversation, author: author.trim() || "you", body: `write ${n + 1} of ${burst}` }),
    );
    const ended = await Promise.allSettled(all);
    setFailed(ended.filter(({ status }) => status === "rejected").length);
    setWriting(false);
  };

  return (
    <div className="controls">
      <p>
        <button type="button" onClick={() => faults.cut(left > 0 ? 0 : cutMs)}>
          {left > 0 ? `Mend the stream (${left} s)` : `Cut the stream for ${cutMs / 1000} s`}
        </button>
        <span className="hint">{freshet.leads ? "This tab holds it." : "Another tab holds it."}</span>
      </p>
      <fieldset>
        <legend>Delay answers</legend>
        {delays.map(([delay, text, title]) => (
          <label key={delay} title={title}>
            <input
              type="radio"
              name="delay"
              checked={faults.delay === delay}
              onChange={() => faults.setDelay(delay)}
            />
            {text}
          </label>
        ))}
      </fieldset>
      <p>
        <button type="button" {...busy(writing)} onClick={() => void write()}>
          Write {burst} at once
        </button>
        <span className="hint">
          {failed > 0 ? `${failed} of them failed.` : "See how few refetches it takes."}
        </span>
      </p>
    </div>
  );
}
