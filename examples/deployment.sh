export EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS=kafka-1:9092,kafka-2:9092     # 1 your brokers
export EARLYBIRD_KAFKA__OPTIONS__SECURITY_PROTOCOL=SASL_SSL              # 2 any librdkafka option, `_` for `.`
export EARLYBIRD_KAFKA__OPTIONS__SASL_MECHANISM=SCRAM-SHA-512            # 3
export EARLYBIRD_KAFKA__OPTIONS__SASL_USERNAME=earlybird                 # 4
export EARLYBIRD_KAFKA__OPTIONS__SASL_PASSWORD_FILE=/run/secrets/kafka   # 5 *_FILE reads a secret from a file
export EARLYBIRD_REDIS__URL=redis://redis:6379/0                         # 6 optional
earlybird config check                                                   # 7 names all settings that cannot work
earlybird topics create --replication 3                                  # 8 signals get the broker's append time
earlybird run                                                            # 9 until stopped; per machine one, or several
earlybird signals                                                        # 10 watch, in another terminal with 1 to 6
