import { useCallback, useLayoutEffect, useRef, useState } from "react";

/** So near to the end counts as there. */
const endPx = 48;

interface Anchor {
  readonly element: Element;
  readonly top: number;
}

/**
 * Follows the end of a list, unless the reader has scrolled up: then what is in
 * sight stays where it is, whatever comes or goes above and below. `list` is
 * another object whenever what the scroller holds has changed.
 */
export function useScroll(list: unknown) {
  const scroller = useRef<HTMLDivElement>(null);
  const items = useRef<HTMLOListElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const following = useRef(true);
  // Several, since the first one may be what goes.
  const anchors = useRef<readonly Anchor[]>([]);

  const note = useCallback(() => {
    const element = scroller.current!;
    following.current = element.scrollHeight - element.scrollTop - element.clientHeight < endPx;
    setAtEnd(following.current);
    anchors.current = following.current ? [] : inSight(element, items.current!);
  }, []);
  const settle = useCallback(() => {
    const element = scroller.current!;
    if (following.current) element.scrollTop = element.scrollHeight;
    else {
      const anchor = anchors.current.find((one) => one.element.isConnected);
      if (anchor) element.scrollTop += anchor.element.getBoundingClientRect().top - anchor.top;
    }
    note();
  }, [note]);
  const toEnd = useCallback(() => {
    following.current = true;
    settle();
  }, [settle]);

  // Ends with the commit that takes the list away: neither may look for it after.
  useLayoutEffect(() => {
    const element = scroller.current!;
    element.addEventListener("scroll", note, { passive: true });
    // An editor opens, the window changes, the field below grows.
    const observer = new ResizeObserver(settle);
    observer.observe(element);
    observer.observe(items.current!);
    return () => {
      element.removeEventListener("scroll", note);
      observer.disconnect();
    };
  }, [note, settle]);
  useLayoutEffect(settle, [list, settle]);
  return { scroller, items, atEnd, toEnd };
}

/** The items on show, found by halving: a list may have thousands. */
function inSight(scroller: Element, { children }: Element): Anchor[] {
  const { top, bottom } = scroller.getBoundingClientRect();
  let [low, high] = [0, children.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (children[middle]!.getBoundingClientRect().bottom > top) high = middle;
    else low = middle + 1;
  }
  const anchors: Anchor[] = [];
  for (; low < children.length; low++) {
    const place = children[low]!.getBoundingClientRect();
    if (place.top > bottom) break;
    anchors.push({ element: children[low]!, top: place.top });
  }
  return anchors;
}
