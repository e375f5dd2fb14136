import { useEffect, useLayoutEffect, useRef, type FocusEvent, type RefObject } from "react";

/**
 * For a button while its work is under way: it does nothing then, but keeps the
 * focus, which `disabled` would throw away.
 */
export const busy = (is: boolean) => ({ "aria-disabled": is || undefined });

/** When the component goes, and the focus with it, the focus goes to what `next` finds. */
export function useFocusAfter(next: () => HTMLElement | null | undefined): void {
  const find = useRef(next);
  useEffect(() => {
    find.current = next;
  });
  useLayoutEffect(
    () => () => {
      const held = document.activeElement; // what goes is still there
      requestAnimationFrame(() => {
        if (!held?.isConnected && document.activeElement === document.body) find.current()?.focus({ preventScroll: true });
      });
    },
    [],
  );
}

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
    if (next) next.tabIndex = -1; // from now on it can have it, though not by the Tab key
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
