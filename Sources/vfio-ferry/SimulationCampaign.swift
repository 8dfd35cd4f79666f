// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Migration
internal import Simulation
internal import Synchronization

/// Many runs with faults, of one or several worlds in turn, each with the next seed.
struct SimulationCampaign {
  /// A world that is played.
  struct Part: Sendable {
    /// As the command line names it.
    let name: String
    let world: WorldDescription
  }

  let parts: [Part]
  let firstSeed: UInt64
  let count: Int
  let changes: SimulateChanges

  /// How one run ended.
  struct Run: Sendable {
    let seed: UInt64
    /// The part's number.
    let part: Int
    /// Nil where it could not be played.
    let ending: SimulationEnding?
    let digest: UInt64
    /// The first rule that was broken.
    let violation: String?
  }

  /// The part that a seed plays: with all four built-in ones, seed n plays number n mod 4.
  func part(of seed: UInt64) -> Int { Int(seed % UInt64(parts.count)) }

  /// Plays one seed.
  /// - Parameter judge: remembers what it holds runs against, so one for all is best.
  func play(seed: UInt64, _ judge: Judge) -> Run {
    let part = part(of: seed)
    // A trap in the engine ends all runs at once, and it has to be known which one it was.
    LastWords.set(
      "\nTrapped in: \(SimulateSubject.command(parts[part].name, seed: seed, changes, faults: true))\n")
    defer { LastWords.set("") }
    let move = Scenario.withFaults(world: changes.applied(to: parts[part].world), seed: seed)
    do throws(CommandFailure) {
      var world = try SimulatedWorld.ready(move.scenario)
      while world.advance() {}
      let summary = world.summary(judge)
      return Run(
        seed: seed, part: part, ending: SimulationEnding(world, summary), digest: summary.runDigest,
        violation: summary.violations.first)
    } catch {
      return Run(seed: seed, part: part, ending: nil, digest: 0, violation: "it can't be played: \(error.message)")
    }
  }

  /// Plays all of them, on all processors.
  func play(_ console: Console) throws(CommandFailure) -> CampaignTally {
    let desk = TallyDesk(CampaignTally(self), console)
    let firstSeed = firstSeed
    let judge = Judge()
    try ParallelRuns.each(below: count, name: "simulation") { number in
      desk.take(play(seed: firstSeed + UInt64(number), judge), number: number)
    }
    desk.end()
    return desk.tally.withLock { $0 }
  }

  /// Where the threads hand in their runs.
  private final class TallyDesk: Sendable {
    let tally: Mutex<CampaignTally>
    private let console: Console

    init(_ tally: CampaignTally, _ console: Console) {
      self.tally = Mutex(tally)
      self.console = console
    }

    func take(_ run: Run, number: Int) {
      tally.withLock { tally in
        tally.add(run, number: number)
        guard console.showsProgress, tally.isRound else { return }
        console.err("\r\u{1b}[K\(tally.progress)")
      }
    }

    func end() {
      if console.showsProgress { console.err("\r\u{1b}[K") }
    }
  }
}

/// What the runs of a campaign came to. The same in whatever order they are added.
struct CampaignTally: Sendable {
  /// What the runs of one world came to.
  struct Part: Sendable {
    let name: String
    fileprivate(set) var runs = 0
    /// Runs by how they ended, and why.
    fileprivate(set) var endings: [SimulationEnding: Int] = [:]
    fileprivate(set) var broken = 0

    /// Runs that ended so.
    func count(_ kind: SimulationEnding.Kind) -> Int {
      endings.reduce(0) { $0 + ($1.key.kind == kind ? $1.value : 0) }
    }

    /// Why runs ended so, the commonest reason first.
    func reasons(_ kind: SimulationEnding.Kind) -> [(words: String, runs: Int)] {
      let reasons = endings.filter { $0.key.kind == kind }.map { ($0.key.why ?? "no reason", $0.value) }
      return reasons.sorted { $0.1 != $1.1 ? $0.1 > $1.1 : $0.0 < $1.0 }.map { (words: $0.0, runs: $0.1) }
    }
  }

  let campaign: SimulationCampaign
  private(set) var parts: [Part]
  /// Runs in which a rule was broken; the first ones in the order of seeds.
  private(set) var broken: [SimulationCampaign.Run] = []
  private(set) var brokenCount = 0
  private(set) var runs = 0
  private var digests: [UInt64]

  /// So many broken runs are kept; a program that is wrong may break them all.
  private static let mostBroken = 20

  init(_ campaign: SimulationCampaign) {
    self.campaign = campaign
    parts = campaign.parts.map { Part(name: $0.name) }
    digests = [UInt64](repeating: 0, count: campaign.count)
  }

  /// - Parameter number: its place in the order of seeds, from 0.
  mutating func add(_ run: SimulationCampaign.Run, number: Int) {
    runs += 1
    digests[number] = run.digest
    parts[run.part].runs += 1
    if let ending = run.ending { parts[run.part].endings[ending, default: 0] += 1 }
    guard run.violation != nil else { return }
    brokenCount += 1
    parts[run.part].broken += 1
    let place = broken.firstIndex { $0.seed > run.seed } ?? broken.count
    broken.insert(run, at: place)
    if broken.count > Self.mostBroken { broken.removeLast() }
  }

  /// The digests of all runs in the order of seeds, in one (FNV-1a over their bytes).
  var digest: UInt64 {
    var value: UInt64 = 0xcbf2_9ce4_8422_2325
    for digest in digests {
      for shift in stride(from: UInt64(0), to: 64, by: 8) {
        value = (value ^ (digest >> shift & 0xff)) &* 0x100_0000_01b3
      }
    }
    return value
  }

  /// Whether it is time to draw the progress: a few hundred times in all.
  var isRound: Bool { runs % max(1, campaign.count / 500) == 0 }

  /// A line while it goes on.
  var progress: String {
    let trouble = brokenCount == 0 ? "no rule broken" : "\(brokenCount) BROKE A RULE"
    return "\(runs) of \(campaign.count) runs, \(trouble)"
  }
}
