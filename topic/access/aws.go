package access

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/aws"
)

// awsFor is how long AWS credentials are used without a look for others. The connections
// of a process's clients share them; a later authentication gets what is there then.
const awsFor = time.Minute

// awsIAM signs with the credentials that AWS's own tools would take: those of the
// environment, of a shared profile, of a web identity, or of the machine.
func awsIAM(log *slog.Logger) sasl.Mechanism {
	return aws.ManagedStreamingIAM(newRenewed(askAWS, "AWS credentials", log).get)
}

func askAWS(ctx context.Context) (auth aws.Auth, good time.Duration, err error) {
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return auth, 0, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Credentials == nil {
		return auth, 0, errors.New("there are no AWS credentials")
	}
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return auth, 0, fmt.Errorf("AWS credentials: %w", err)
	}
	good = awsFor
	if creds.CanExpire {
		good = min(good, time.Until(creds.Expires))
	}
	return aws.Auth{AccessKey: creds.AccessKeyID, SecretKey: creds.SecretAccessKey, SessionToken: creds.SessionToken}, good, nil
}
