// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxIO
internal import Migration
internal import Simulation
internal import Topology
internal import Transport

struct SimulateCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "simulate", abstract: "Move two simulated devices between two simulated hosts. No hardware is needed.",
    discussion: """
      The sessions, the stream and its checksums are those that move real devices; the devices, the link and the clock \
      are simulated. The same seed gives the same run, to the bit.
      """)

  @OptionGroup var format: FormatOptions

  @Option(help: "Another seed gives other contents and other changes.")
  var seed: UInt64 = 1

  @Option(help: ArgumentHelp("State of the network card, in MiB.", valueName: "MIB"))
  var nic = 64

  @Option(help: ArgumentHelp("State of the graphics card, in MiB.", valueName: "MIB"))
  var gpu = 1024

  @Option(help: ArgumentHelp("Rate of the link, in Mbit/s.", valueName: "RATE"))
  var link = 25_000

  @Flag(help: "Do not pace the display; show the end at once.")
  var fast = false

  func validate() throws {
    guard (1...65_536).contains(nic), (1...65_536).contains(gpu) else {
      throw ValidationError("a device has 1 to 65,536 MiB of state")
    }
    guard (8...8_000_000).contains(link) else { throw ValidationError("a link has 8 to 8,000,000 Mbit/s") }
  }

  func execute(_ console: Console) throws {
    var scenario = Scenario.nicAndGPU(nicBytes: nic << 20, gpuBytes: gpu << 20, seed: seed)
    scenario.link.bytesPerMicrosecond = UInt64(link / 8)
    var world: SimulatedWorld
    do throws(QuiesceRefusal) {
      world = try SimulatedWorld(scenario, checksum: .xxh3)
    } catch {
      throw CommandFailure.refused("\(error)")
    }
    if let refusal = world.refusal { throw CommandFailure.refused(refusal) }
    if format.wantsJSON {
      let summary = world.run()
      console.json(summary.json(seed: seed), format)
      try judge(summary)
      return
    }
    console.line(
      "Moving a network card (\(Figures.bytes(UInt64(nic) << 20))) and a graphics card (\(Figures.bytes(UInt64(gpu) << 20)))"
        + " between two simulated hosts, at \(link) Mbit/s.")
    console.line("Times are the simulation's own.")
    console.line()
    var display = SimulationDisplay(console: console, isLive: console.showsProgress && !fast)
    // The world's own clock stands still where nothing happens; this one goes on.
    var clock = world.now
    while !world.isOver {
      display.show(world)
      clock = clock.adding(microseconds: display.stepMicroseconds)
      world.advance(to: clock)
    }
    display.show(world)
    display.end()
    let summary = world.summary
    console.line()
    for line in summary.table { console.line(line) }
    try judge(summary)
    mentionRealDevices(console)
  }

  private func judge(_ summary: SimulationSummary) throws(CommandFailure) {
    if summary.isVerified { return }
    let why = summary.violations.first ?? "a device does not hold what the source's held"
    throw .failed("the simulated move is not what it should be: \(why) (seed \(seed))")
  }

  /// A newcomer may have the real thing at hand.
  private func mentionRealDevices(_ console: Console) {
    guard let device = Inventory().devices().first(where: { $0.isMigratable == true }) else { return }
    console.line()
    console.line("This machine has migratable devices, \(device.name) among them. Next:")
    console.line("  vfio-ferry show \(device.name)                       what it can do; binds nothing")
    console.line("  vfio-ferry save \(device.name) --pid PID --force -o FILE   save it from the VMM that holds it")
  }
}
