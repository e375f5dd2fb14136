import { useLayoutEffect, useRef, type FocusEvent, type RefObject } from "react";

/**
 * When the item that has the focus is deleted, here or elsewhere, the one that
 * takes its place gets it; the region around, when none is left. Otherwise it
 * would be the page's, and reading on would begin at the top.
 */
export function useKeptFocus(list: unknown, items: RefObject<HTMLElement | null>, region: RefObject<HTMLElement | null>) {
  const place = useRef<{ readonly item: Element; readonly index: number }>(undefined);
  useLayoutEffect(() => {
    const held = place.current;
    if (!held) return;
    const children = [...items.current!.children];
    if (held.item.isConnected) {
      place.current = { ...held, index: children.indexOf(held.item) };
      return;
    }
    place.current = undefined;
    if (document.activeElement !== document.body) return;
    const next = children[Math.min(held.index, children.length - 1)] as HTMLElement | undefined;
    (next ?? region.current)?.focus({ preventScroll: true });
  }, [list, items, region]);
  return {
    onFocus: ({ target, currentTarget }: FocusEvent) => {
      const item = target.closest("li");
      if (item) place.current = { item, index: [...currentTarget.children].indexOf(item) };
    },
    // Not called for an element that is taken away.
    onBlur: () => {
      place.current = undefined;
    },
  };
}
