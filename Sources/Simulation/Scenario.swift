// SPDX-License-Identifier: Apache-2.0
public import Migration

/// One of the two hosts of a simulation.
public enum SimulatedSide: Int, CaseIterable, Hashable, Sendable {
  /// The devices are saved here.
  case source
  /// The devices are loaded here.
  case destination
}

/// What a simulation is to play: the devices of two hosts, the link between them, and what goes wrong.
public struct Scenario: Sendable {
  /// A person ends a session.
  public struct Interrupt: Hashable, Sendable {
    /// When.
    public enum Moment: Hashable, Sendable {
      /// Just before the session takes its n-th event; the first is 1.
      case beforeEvent(Int)
      /// At this time.
      case at(MonotonicTime)
      /// When the session reports a device as hung.
      case onHang
    }

    /// Whose session.
    public var side: SimulatedSide
    /// When.
    public var moment: Moment

    /// An interrupt of that side's session.
    public init(_ side: SimulatedSide, _ moment: Moment) {
      self.side = side
      self.moment = moment
    }
  }

  /// The guest resets a device of the source. Once the vCPUs have stopped the guest does nothing more.
  public struct GuestReset: Hashable, Sendable {
    /// Which device.
    public var device: Int
    /// When.
    public var time: MonotonicTime

    /// A reset of that device by its guest.
    public init(device: Int, time: MonotonicTime) {
      self.device = device
      self.time = time
    }
  }

  /// Somebody declares a device dead.
  public struct Death: Hashable, Sendable {
    /// To which session.
    public var side: SimulatedSide
    /// Which device.
    public var device: Int
    /// When.
    public var time: MonotonicTime

    /// That device of that side, at that time.
    public init(_ side: SimulatedSide, device: Int, time: MonotonicTime) {
      self.side = side
      self.device = device
      self.time = time
    }
  }

  /// The world that the devices are a part of: device n is the world's function n. Nil where they are nothing but devices
  /// with opaque content.
  public var world: WorldDescription?
  /// Guest memory without content, for devices with opaque content; nil where none moves. It moves in the rounds that
  /// ``save`` has to ask for: see `SaveSession.Configuration.memory`.
  public var memory: SimulatedMemory.Configuration?
  /// Decides what is left to chance in the world.
  public var seed: UInt64 = 1
  /// What the peers ask for follows from this, so that runs of other seeds can be held against one another.
  public var scriptSeed: UInt64 = 1
  /// Whether every round trip of the peers is kept, for a drawing.
  public var keepsRoundTrips = false
  /// The devices of the source.
  public var source: [SimulatedDevice.Configuration]
  /// The devices of the destination, in the same order.
  public var destination: [SimulatedDevice.Configuration]
  /// Which devices of one host can start transfers to which others; nil where each can to each.
  public var reachability: Reachability?
  /// What is between them.
  public var link = SimulatedLink()
  /// How the source saves. Whether it awaits answers is the link's matter; guest memory moves only where there is some.
  public var save = SaveSession.Configuration()
  /// How the destination loads. Whether it answers is the link's matter.
  public var load = LoadSession.Configuration()
  /// How long the VM takes to stop its vCPUs once it is asked to.
  public var vcpuStopMicroseconds: UInt64 = 100
  /// When a person ends a session.
  public var interrupts: [Interrupt] = []
  /// When a device is declared dead.
  public var deaths: [Death] = []
  /// When the guest resets a device.
  public var guestResets: [GuestReset] = []
  /// Whether the two sides agree on who runs, as far as the link has two ways. The source's `keepStopped` has no meaning
  /// then.
  public var commits = false
  /// When a side's process is killed: its devices are reset by the kernel, which closes what it held, and its end of the
  /// link is closed.
  public var kills: [Interrupt] = []

  /// A move of these devices to a host that has the same ones, empty. The source stays stopped at the end.
  public init(moving devices: [SimulatedDevice.Configuration]) {
    source = devices
    destination = devices.map { device in
      var twin = device
      twin.isInUse = false
      twin.failures = []
      twin.seed = ~device.seed
      return twin
    }
    save.keepStopped = true
  }
}
