import type { QueryReport } from "@freshet/query/tanstack";
import { useEffect, useState, useSyncExternalStore } from "react";
import { queries, trace } from "../live.js";
import type { Picture } from "../trace.js";

const subscribe = (listener: () => void) => trace.onChange(listener);

export function usePicture(): Picture {
  return useSyncExternalStore(subscribe, () => trace.picture);
}

/** Rendered once per frame of the screen at most, however often it changes. */
export function useReport(): readonly QueryReport[] {
  const [report, setReport] = useState<readonly QueryReport[]>([]);
  useEffect(() => {
    let frame = 0;
    const look = () => {
      frame = 0;
      setReport(queries.report());
    };
    const stop = queries.onChange(() => (frame ||= requestAnimationFrame(look)));
    look();
    return () => {
      stop();
      cancelAnimationFrame(frame);
    };
  }, []);
  return report;
}
