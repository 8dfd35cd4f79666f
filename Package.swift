// swift-tools-version: 6.2
// SPDX-License-Identifier: Apache-2.0
import PackageDescription

/// The one list of settings: every Swift target of the package has exactly these.
let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InferIsolatedConformances"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableUpcomingFeature("ImmutableWeakCaptures"),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

func layer(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let package = Package(
  name: "vfio-ferry",
  products: [
    .executable(name: "vfio-ferry", targets: ["vfio-ferry"]),
    .library(name: "LinuxIO", targets: ["LinuxIO"]),
    .library(name: "Migration", targets: ["Migration"]),
    .library(name: "VFIO", targets: ["VFIO"]),
    .library(name: "Simulation", targets: ["Simulation"]),
    .library(name: "Topology", targets: ["Topology"]),
    .library(name: "Transport", targets: ["Transport"]),
    .library(name: "Engine", targets: ["Engine"]),
    .library(name: "Helper", targets: ["Helper"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0")
  ],
  targets: [
    // The layers, in the order of docs/architecture.md: each imports only what stands above it.
    .target(name: "CVFIO", path: ".", sources: ["Sources/CVFIO"], publicHeadersPath: "include"),
    .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
    // These load their library when it is first needed: see Sources/CPCI/pci.c.
    .target(name: "CPCI"),
    .target(name: "CIBVerbs"),
    .target(name: "CUdev"),
    .target(name: "CConfinement"),
    .target(name: "CZlib"),
    // Its headers have a folder of their own, which a package can name only through a link (pkg-config would link, too).
    .target(name: "CNetlink", exclude: ["libnl3"], cSettings: [.headerSearchPath("libnl3")]),
    layer("LinuxIO", ["CConfinement", "CVFIO"]),
    layer("Migration", []),
    layer("VFIO", ["LinuxIO", "Migration", "CVFIO"]),
    layer("Simulation", ["Migration"]),
    layer("Topology", ["CIBVerbs", "CNetlink", "CPCI", "CUdev", "CZlib", "LinuxIO", "Migration"]),
    layer("Transport", ["LinuxIO", "Migration", "CXXHash"]),
    layer("Engine", ["LinuxIO", "Migration"]),
    layer("Metrics", ["LinuxIO"]),
    layer("Helper", ["CVFIO", "Engine", "LinuxIO", "Metrics", "Migration", "Topology", "Transport", "VFIO"]),
    .executableTarget(
      name: "vfio-ferry",
      dependencies: [
        "LinuxIO", "Migration", "VFIO", "Simulation", "Topology", "Transport", "Engine", "Helper",
        "Metrics", argumentParser,
      ],
      swiftSettings: settings),
    // Stand-ins for a VMM, for the lab: they share no code with the layers above.
    .executableTarget(name: "device-holder", dependencies: ["CVFIO"], path: "Tests/device-holder"),
    .executableTarget(name: "guest-memory", dependencies: ["CVFIO"], path: "Tests/guest-memory"),
    // A process that throttles, to be killed; and traffic to be throttled.
    .executableTarget(
      name: "throttle-holder", dependencies: ["LinuxIO", "Migration", "Topology"], path: "Tests/throttle-holder",
      swiftSettings: settings),
    .executableTarget(name: "udp-traffic", path: "Tests/udp-traffic"),
    // A process that confines itself as a helper does, and then tries what a helper has no business with.
    .target(name: "Attempts", path: "Tests/Attempts", publicHeadersPath: "."),
    .executableTarget(
      name: "confined-attempts", dependencies: ["Attempts", "Helper", "LinuxIO", "Migration", "Topology"],
      path: "Tests/confined-attempts", swiftSettings: settings),
    // The test requests of the kernel's mock IOMMU.
    .target(name: "MockIOMMU", dependencies: ["CVFIO"], path: "Tests/MockIOMMU", publicHeadersPath: "."),
    // Memory that the lab's tests let devices write to.
    .target(name: "GuestPages", dependencies: ["CVFIO"], path: "Tests/GuestPages", publicHeadersPath: "."),
    // tools/bench runs these; the C side is what the figures are held against.
    .target(name: "CBaseline", dependencies: ["CVFIO"], path: "Tests/CBaseline", publicHeadersPath: "."),
    .executableTarget(
      name: "ferry-bench",
      dependencies: [
        "CBaseline", "Engine", "Helper", "LinuxIO", "Migration", "Simulation", "Topology", "Transport", "VFIO",
      ],
      path: "Tests/Benchmarks", swiftSettings: settings),
    tests("MigrationTests", ["Migration"]),
    tests("SimulationTests", ["Migration", "Simulation"]),
    // Devices made of memory, for what no kernel can be made to show.
    .target(
      name: "FakeDevices", dependencies: ["LinuxIO", "Migration"], path: "Tests/FakeDevices", swiftSettings: settings),
    tests("EngineTests", ["CVFIO", "Engine", "FakeDevices", "LinuxIO", "Migration", "Simulation", "Transport"]),
    tests("MetricsTests", ["LinuxIO", "Metrics"]),
    tests(
      "HelperTests",
      [
        "confined-attempts", "vfio-ferry", "CVFIO", "Engine", "FakeDevices", "Helper", "LinuxIO", "Migration",
        "Simulation", "Transport",
      ]),
    // What untrusted input reaches, for a fuzzer: tools/fuzz.
    .target(
      name: "FuzzTargets",
      dependencies: [
        "Engine", "Helper", "LinuxIO", "Migration", "Simulation", "Topology", "TopologyFixtures", "Transport",
      ],
      path: "Tests/FuzzTargets", swiftSettings: settings),
    .executableTarget(
      name: "ferry-fuzz", dependencies: ["FuzzTargets"], path: "Tests/ferry-fuzz", swiftSettings: settings),
    .testTarget(name: "FuzzTests", dependencies: ["FuzzTargets"], exclude: ["Corpus"], swiftSettings: settings),
    // Described hosts, as folders that look like their sysfs.
    .target(
      name: "TopologyFixtures", dependencies: ["Topology"], path: "Tests/TopologyFixtures",
      exclude: ["Descriptions", "Exchanges"],
      swiftSettings: settings),
    tests("TopologyTests", ["throttle-holder", "LinuxIO", "Migration", "Topology", "TopologyFixtures"]),
    tests(
      "CommandTests",
      [
        "vfio-ferry", "Helper", "LinuxIO", "Migration", "Simulation", "Topology", "TopologyFixtures", "Transport",
        "VFIO",
        argumentParser,
      ]),
    // Runs in the lab only; see tools/test.
    tests(
      "LabTests",
      [
        "vfio-ferry", "confined-attempts", "device-holder", "guest-memory", "throttle-holder", "udp-traffic", "Engine",
        "Helper", "LinuxIO",
        "Migration", "Topology", "Transport", "VFIO", "MockIOMMU", "GuestPages",
        argumentParser,
      ]),
  ]
)
