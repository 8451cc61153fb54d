/** The class behind `cosmiconfigSync`, which upstream declares as empty. Only what {@link file://./source.ts} uses. */
declare module "cosmiconfig/dist/ExplorerSync.js" {
  interface Found {
    readonly config: unknown;
    readonly filepath: string;
    readonly isEmpty?: boolean;
  }

  export class ExplorerSync {
    constructor(options: {
      readonly moduleName: string;
      readonly searchPlaces: readonly string[];
      readonly searchStrategy: "none";
      readonly ignoreEmptySearchPlaces: boolean;
      readonly cache: boolean;
      readonly loaders: Readonly<Record<string, (file: string, text: string) => unknown>>;
      readonly transform: (found: Found | null) => Found | null;
      readonly metaConfigFilePath: null;
    });
    load(file: string): Found | null;
    search(folder: string): Found | null;
  }
}
