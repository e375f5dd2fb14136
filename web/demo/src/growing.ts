import { useMutation } from "@tanstack/react-query";
import { useState } from "react";

interface Pages {
  readonly hasNextPage: boolean;
  fetchNextPage(options: { throwOnError: true }): Promise<unknown>;
}

/**
 * A list of which more and more is read: as one page that grows, and as further
 * pages only above the largest size. So a change costs one read, not one for
 * each page, and all that is on show is of one revision.
 */
export function useGrowing<L extends Pages>(
  sizes: readonly [number, ...number[]],
  usePages: (pageSize: number) => L,
  read: (pageSize: number) => Promise<unknown>,
) {
  const [pageSize, setPageSize] = useState(sizes[0]);
  const list = usePages(pageSize);
  // The page on show stays until the other one is there, also if it fails.
  const growth = useMutation({
    networkMode: "always",
    mutationFn: async () => {
      const larger = sizes.find((size) => size > pageSize);
      if (larger === undefined) return void (await list.fetchNextPage({ throwOnError: true }));
      await read(larger);
      setPageSize(larger);
    },
  });
  const shrinking = useMutation({
    networkMode: "always",
    mutationFn: async (stillWanted: () => boolean) => {
      await read(sizes[0]);
      if (stillWanted()) setPageSize(sizes[0]);
    },
  });
  return {
    list,
    /** Tells apart what is read at once: by size and number of pages. */
    pageSize,
    hasMore: list.hasNextPage,
    growing: growth.isPending,
    growError: growth.error,
    grow: () => {
      if (!growth.isPending) growth.mutate();
    },
    grown: pageSize > sizes[0],
    leastSize: sizes[0],
    /** Back to the first size, unless that is no longer wanted once it is there. */
    shrink: (stillWanted: () => boolean) => {
      if (!shrinking.isPending && !growth.isPending) shrinking.mutate(stillWanted);
    },
  };
}
